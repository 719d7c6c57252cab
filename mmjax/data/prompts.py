"""Texts to be written: a prompt that is given and an answer that is learned, in one row that says which is which."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, SupportsInt

import numpy as np

from mmjax.data.base import Example, Transform
from mmjax.data.tokenizer import CUT, PAD_ID
from mmjax.errors import UserError, nearest


@dataclass(frozen=True)
class InLanguage(Transform):
    """Of the list `key`, which has a text for each of `languages` in their order, the one in `language`, as a pair for
    `PromptAnswer`: the prompt is the language's code and a colon. A list that is absent (None) stays so; an empty text
    is no answer, see `PromptAnswer`.
    """

    languages: tuple[str, ...]
    language: str
    key: str = 'text'

    def __post_init__(self):
        _check_languages(self.languages, (self.language,))

    @property
    def prompts(self) -> tuple[str, ...]:
        """All that there may be."""
        return (f'{self.language}:',)

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return _in(example, self.key, self.languages, self.language)


@dataclass(frozen=True)
class AnyLanguage(Transform):
    """`InLanguage` in another language each time: of those in `among`, or (without) of all. For training."""

    languages: tuple[str, ...]
    among: tuple[str, ...] = ()
    key: str = 'text'
    random: ClassVar[bool] = True

    def __post_init__(self):
        _check_languages(self.languages, self.among)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All that there may be."""
        return tuple(f'{language}:' for language in self.among or self.languages)

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        among = self.among or self.languages
        return _in(example, self.key, self.languages, among[int(rng.integers(len(among)))])


@dataclass(frozen=True)
class PromptAnswer(Transform):
    """The ids of a prompt and an answer, or of a text that is all answer, as one row:

        ids      end p p p a a a a end 0 0
        causal     0 0 0 0 1 1 1 1  1  0 0

    `key` is the pair (prompt, answer) or the answer. `key/causal` is 0 where tokens read one another and 1 for those
    that are written one by one (`Tokens`). tokenizer: `Bytes`, `Words` or another with `key`, `length`, `size` and
    `decode`, by itself; its length is that of the row. The end token, one id beyond the tokenizer's, also begins each
    row, so that there is always something to go on from. An answer that is too long is cut before its end token, which
    stays; the first cut warns, and `CUT` counts them. An absent answer (None) is all padding. So is a text of the data
    that is empty, from which there is nothing to learn but silence; the first of them warns.

    Raises:
        UserError: where a prompt leaves no room for an answer.
    """

    tokenizer: Transform

    def __post_init__(self):
        for name in ('key', 'length', 'size', 'decode'):
            if not hasattr(self.tokenizer, name):
                raise UserError(f'PromptAnswer.tokenizer: {type(self.tokenizer).__name__} is none: it has no {name}')
        if self.length < 3:
            raise UserError(f'PromptAnswer.tokenizer.length is {self.length}: a row needs a begin, a token and an end')

    @property
    def key(self) -> str:
        return self._tokenizer.key

    @property
    def length(self) -> int:
        """Of a row."""
        return self._tokenizer.length

    @property
    def size(self) -> int:
        """Number of ids: rows of an embedding table."""
        return self.end + 1

    @property
    def end(self) -> int:
        """The id that begins and ends a row."""
        return self._tokenizer.size

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        key = self.key
        given = example[key]
        asked, answer = ('', _told(given, key)) if given is None or isinstance(given, str) else self._pair(given)
        ids, causal = np.full((2, self.length), PAD_ID, np.int32)
        if answer is not None:
            prompt = self._ids(asked)
            room = self.length - 2 - len(prompt)
            if room < 1:
                raise UserError(
                    f"PromptAnswer: the prompt of '{key}' has {len(prompt)} tokens, which leaves no room for an answer "
                    f'in a row of {self.length} (two are its ends); make the tokenizer longer or the prompt shorter'
                )
            cut, written = CUT[key, self.length], self._ids(answer)
            if len(written) > room and CUT[key, self.length] == cut:  # else the tokenizer has cut it, and said so
                self._warn(len(written), room)
            row = [self.end, *prompt, *written[:room], self.end]
            ids[: len(row)], causal[1 + len(prompt) : len(row)] = row, 1
        return {key: ids, f'{key}/causal': causal, f'{key}/present': np.bool_(answer is not None)}

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of these ids up to the end token; one that begins a row is passed over."""
        read = list(map(int, ids))
        read = read[1:] if read[:1] == [self.end] else read
        return self._tokenizer.decode(read[: read.index(self.end)] if self.end in read else read)

    def _pair(self, given: Any) -> tuple[str, str | None]:
        if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], str):
            raise UserError(
                f"PromptAnswer: '{self.key}' is a {type(given).__name__} of {len(given)}; it takes a text, or a pair "
                'of prompt and answer; choose one of several by InLanguage or Item, in an evaluation too'
            )
        return given

    @property
    def _tokenizer(self) -> Any:
        return self.tokenizer

    def _ids(self, text: str) -> list[int]:
        return [i for i in self._tokenizer({self.key: text})[self.key].tolist() if i != PAD_ID]

    def _warn(self, tokens: int, room: int) -> None:
        if not CUT[self.key, self.length]:
            warnings.warn(f"PromptAnswer: a '{self.key}' of {tokens} tokens was cut to {room}", stacklevel=3)
        CUT[self.key, self.length] += 1


@dataclass(frozen=True)
class References(Transform):
    """The texts that an answer is compared with, as UTF-8: uint8 [most, length], padded with zeros, which an evaluator
    can read. `key` is a text, a list of up to `most` texts, or None.

    Raises:
        UserError: on more texts, or one of more bytes: what is compared with is never cut.
    """

    key: str = 'references'
    length: int = 256
    most: int = 1

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        given = example[self.key]
        texts = [] if given is None else [given] if isinstance(given, str) else list(given)
        if len(texts) > self.most:
            raise UserError(f"References.most is {self.most}, but an example has {len(texts)} in '{self.key}'")
        rows = np.zeros((self.most, self.length), np.uint8)
        for row, text in zip(rows, texts, strict=False):
            encoded = text.encode('utf-8', 'replace')
            if len(encoded) > self.length:
                raise UserError(f"References.length is {self.length}, but '{self.key}' has one of {len(encoded)} bytes")
            row[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        return {self.key: rows}


def _in(example: Example, key: str, languages: Sequence[str], language: str) -> Example:
    texts = example[key]
    if texts is None or isinstance(texts, tuple):  # a pair of prompt and answer that a user typed
        return example
    if isinstance(texts, str) or len(texts) != len(languages):
        there = 'one text' if isinstance(texts, str) else f'{len(texts)} texts'
        raise UserError(f"'{key}' holds {there}, not one for each of the {len(languages)} languages")
    return example | {key: (f'{language}:', _told(texts[languages.index(language)], key))}


def _told(text: str | None, key: str) -> str | None:
    """A text of the data; None for one that says nothing."""
    if text is None or text.strip():
        return text
    warnings.warn(f"'{key}' is empty in some example: nothing is learned from it there", stacklevel=4)
    return None


def _check_languages(languages: Sequence[str], chosen: Sequence[str]) -> None:
    for language in chosen:
        if language not in languages:
            there = ', '.join(languages)
            raise UserError(f"no language '{language}'{nearest(language, languages)} (there are {there})")
