"""Text to integer ids: known words, or UTF-8 bytes. A learned vocabulary has its own file, `bpe.py`.

All write int32 [length], padded with 0 at the end, and `{key}/present`; an absent text (None) is all padding.
Text that is longer is cut; the first cut of each tokenizer warns, and `CUT` counts them.
"""

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, SupportsInt

import numpy as np

from mmjax.data.base import Example, Transform
from mmjax.errors import BadExample, UserError

PAD_ID, UNKNOWN, FIRST = 0, 1, 2  # PAD_ID and UNTOLD_ID of types.py, which would bring JAX into every worker

MAX_TEXT = 100_000
"""Characters of a text: more is a file that went astray, and takes a tokenizer seconds."""

CUT: Counter[tuple[str, int]] = Counter()
"""Texts cut in this process, by (batch key, length). Equal texts of a cached set are tokenised, and counted, once."""


def split_words(text: str) -> list[str]:
    """The words of a text: lower-cased runs of letters, digits and underscores of any script."""
    return re.findall(r'\w+', text.lower())


@dataclass(frozen=True)
class Words(Transform):
    """One id per word: 0 padding, 1 unknown or masked by a view, 2… the words of `vocabulary` in their order."""

    vocabulary: tuple[str, ...]
    length: int
    key: str = 'text'

    def __post_init__(self):
        _check_length(self)
        seen = set()
        for word in self.vocabulary:
            if split_words(word) != [word]:
                raise UserError(f'Words.vocabulary has {word!r}, which matches no text: use single lower-case words')
            if word in seen:
                raise UserError(f'Words.vocabulary has {word!r} twice')
            seen.add(word)

    @property
    def size(self) -> int:
        """Number of ids: rows of an embedding table."""
        return len(self.vocabulary) + FIRST

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.vocabulary, FIRST)}

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_of(self, example)
        return padded(self, None if text is None else [self._ids.get(word, UNKNOWN) for word in split_words(text)])

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The words of these ids, joined by spaces; unknown ones read '?'."""
        return ' '.join('?' if i == UNKNOWN else self.vocabulary[i - FIRST] for i in map(int, ids) if i != PAD_ID)


@dataclass(frozen=True)
class Bytes(Transform):
    """One id per UTF-8 byte: 0 padding, 1 what a view has masked, 2… the bytes. Text comes back exactly."""

    length: int
    key: str = 'text'
    size: ClassVar[int] = 256 + FIRST

    def __post_init__(self):
        _check_length(self)

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        text = text_of(self, example)
        return padded(self, None if text is None else [byte + FIRST for byte in text.encode('utf-8', 'replace')])

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of these ids, without the last character where a cut went through it."""
        return bytes(i - FIRST for i in map(int, ids) if i >= FIRST).decode('utf-8', 'ignore')


def tokenizers_of(transforms: Sequence[Transform]) -> Iterator[Any]:
    """Those among the transforms, and those that one of them works by."""
    found = (getattr(transform, 'tokenizer', transform) for transform in transforms)
    return (tokenizer for tokenizer in found if hasattr(tokenizer, 'decode'))


def check_vocabularies(transforms: Mapping[str, Sequence[Transform]]) -> None:
    """Raises UserError where the tokenizers of a modality differ, in more than the length, between two places of a
    config, by whose names the transforms are given: an id would mean another token.
    """
    met: dict[str, tuple[str, Any]] = {}
    for place, several in transforms.items():
        for tokenizer in tokenizers_of(several):
            first, expected = met.setdefault(tokenizer.key, (place, tokenizer))
            if _any_length(tokenizer) != _any_length(expected):
                kinds = [f'{type(one).__name__} of {one.size} ids' for one in (expected, tokenizer)]
                raise UserError(
                    f"'{tokenizer.key}' is tokenized by {kinds[0]} in {first} and by another vocabulary, {kinds[1]}, "
                    f'in {place}: an id would mean another token; use one'
                )


def _any_length(tokenizer: Any) -> Any:
    fields = {field.name for field in dataclasses.fields(tokenizer)}
    return dataclasses.replace(tokenizer, length=1) if 'length' in fields else tokenizer


def _check_length(tokenizer: Words | Bytes) -> None:
    if tokenizer.length < 1:
        raise UserError(f'{type(tokenizer).__name__}.length is {tokenizer.length}: use a positive number of tokens')


def text_of(tokenizer: Any, example: Example) -> str | None:
    """The text that a tokenizer is given. Raises BadExample where it is something else, or no text of a person."""
    text = example[tokenizer.key]
    if text is not None and not isinstance(text, str):
        kind = type(text).__name__
        told = f"{type(tokenizer).__name__}: '{tokenizer.key}' is {kind}; it takes a text (str), or None"
        raise BadExample(told, reason='no text')
    if text and len(text) > MAX_TEXT:
        told = f"{type(tokenizer).__name__}: '{tokenizer.key}' has {len(text):,} characters, more than {MAX_TEXT:,}"
        raise BadExample(told, reason='long text')
    if text and '\0' in text:
        raise BadExample(f"{type(tokenizer).__name__}: '{tokenizer.key}' has a NUL in it", reason='text with NUL')
    return text


def padded(tokenizer: Any, tokens: list[int] | None) -> Example:
    """What a tokenizer gives: the ids padded, or cut, to its length, and whether there was a text."""
    key, length = tokenizer.key, tokenizer.length
    ids = np.full(length, PAD_ID, np.int32)
    if tokens and len(tokens) > length:
        if not CUT[key, length]:
            name = type(tokenizer).__name__
            warnings.warn(f"{name}: a '{key}' of {len(tokens)} tokens was cut to length={length}", stacklevel=2)
        CUT[key, length] += 1
    if tokens:
        ids[: len(tokens)] = tokens[:length]
    return {key: ids, f'{key}/present': np.bool_(tokens is not None)}
