"""Random examples of stated shapes: for benchmarks, and for programs that are planned where their data are not."""

import abc
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.data.tokenizer import FIRST, PAD_ID
from mmjax.errors import UserError


class Field(abc.ABC):
    """What stands under one key of a synthetic example. Subclass it as a frozen dataclass."""

    @abc.abstractmethod
    def draw(self, key: str, rng: np.random.Generator) -> Example:
        """The entries `key` and `key/…`, as the transforms of real data would leave them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes that a number stands for; none where it stands for no class."""
        return ()


@dataclass(frozen=True)
class Pixels(Field):
    """An image as `Image` gives it: uint8 [height, width, channels] of noise, and `key/present`.

    height: None, as the width.
    """

    width: int = 224
    height: int | None = None
    channels: int = 3

    def __post_init__(self):
        _check_positive(self, 'width', 'channels', *(() if self.height is None else ('height',)))

    def draw(self, key: str, rng: np.random.Generator) -> Example:
        shape = (self.width if self.height is None else self.height, self.width, self.channels)
        noise = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
        return {key: noise, f'{key}/present': np.bool_(True)}


@dataclass(frozen=True)
class Ids(Field):
    """A text as a tokenizer gives it: int32 [length] of ids below `vocabulary`, none of them padding or unknown, and
    `key/present`.

    tokens: of the row, the rest of which is padding; None: all.
    prompt: of the tokens, those that are given and not learned; marked as `PromptAnswer` marks them, of whose rows the
        first token is always given. None: no marks, for texts of which nothing is written.

        Ids(length=8, vocabulary=100, tokens=6, prompt=2)
        ids      54 9 71 33 4 80 0 0
        causal    0 0  1  1 1  1 0 0
    """

    length: int
    vocabulary: int
    tokens: int | None = None
    prompt: int | None = None

    def __post_init__(self):
        _check_positive(self, 'length', *(() if self.tokens is None else ('tokens',)))
        if self.vocabulary <= FIRST:
            raise UserError(f'Ids.vocabulary is {self.vocabulary}: ids below {FIRST} are padding and unknown; use more')
        if self._tokens > self.length:
            raise UserError(f'Ids.tokens is {self.tokens}, more than the length, {self.length}')
        if self.prompt is not None and not 0 <= self.prompt <= self._tokens:
            raise UserError(f'Ids.prompt is {self.prompt}: use 0 to {self._tokens}, the tokens that there are')

    def draw(self, key: str, rng: np.random.Generator) -> Example:
        ids = np.full(self.length, PAD_ID, np.int32)
        ids[: self._tokens] = rng.integers(FIRST, self.vocabulary, self._tokens, np.int32)
        text = {key: ids, f'{key}/present': np.bool_(True)}
        if self.prompt is None:
            return text
        places = np.arange(self.length)
        written = (places >= self.prompt) & (places < self._tokens)
        return {**text, f'{key}/causal': written.astype(np.int32)}

    @property
    def _tokens(self) -> int:
        return self.length if self.tokens is None else self.tokens


@dataclass(frozen=True)
class Classes(Field):
    """A class, int32: a number below `count`, whose name in `labels` is the number in words."""

    count: int

    def __post_init__(self):
        _check_positive(self, 'count')

    def draw(self, key: str, rng: np.random.Generator) -> Example:
        return {key: np.int32(rng.integers(self.count))}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.count)))


@dataclass(frozen=True)
class Normal(Field):
    """Numbers of a normal distribution, float32 of this shape, such as targets of a regression or vectors."""

    shape: tuple[int, ...] = ()

    def __post_init__(self):
        if any(size < 1 for size in self.shape):
            raise UserError(f'Normal.shape is {self.shape}: use positive numbers')

    def draw(self, key: str, rng: np.random.Generator) -> Example:
        return {key: np.float32(rng.standard_normal(self.shape, np.float32))}


@dataclass(frozen=True)
class Synthetic(Source):
    """`rows` random examples. Each is a function of its row and its fields alone, on every machine.

    They need no transforms. They are drawn faster than a cache of them is filled: hold them in `Data(…, cache=False)`,
    unless a benchmark is to leave out even that.

        Synthetic({'image': Pixels(width=224), 'text': Ids(length=64, vocabulary=256_000, prompt=16)})
    """

    fields: dict[str, Field]
    rows: int = 1024

    def __post_init__(self):
        _check_positive(self, 'rows')
        if not self.fields:
            raise UserError("Synthetic.fields is empty: name what an example has, as {'image': Pixels(width=224)}")

    def open(self) -> Reader:
        return SyntheticReader(self)


class SyntheticReader(Reader):
    """Draws the examples anew each time that they are read."""

    def __init__(self, source: Synthetic):
        self._source = source
        self.labels = {key: field.names for key, field in source.fields.items() if field.names}
        self.fingerprint = hashlib.sha256(repr(source).encode()).hexdigest()

    def __len__(self) -> int:
        return self._source.rows

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self._example(int(row)) for row in rows]

    def _example(self, row: int) -> Example:
        example: Example = {}
        for place, (key, field) in enumerate(self._source.fields.items()):
            example |= field.draw(key, np.random.Generator(np.random.Philox(key=row, counter=[0, place, 0, 0])))
        return example


def _check_positive(holder: object, *names: str) -> None:
    for name in names:
        if getattr(holder, name) < 1:
            raise UserError(f'{type(holder).__name__}.{name} is {getattr(holder, name)}: use a positive number')
