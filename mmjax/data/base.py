"""What data is made of: a source of examples, transforms of one example, and `Data`, the two put together.

Sources, transforms and feeds (`Data`, and what is made of several or of rows of them) are frozen dataclasses: they are
part of an experiment's config and cost nothing. Reading starts with `Source.open`, which gives a `Reader`; training
reads the `Stream` that `Feed.open` gives.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmjax.errors import UserError, nearest

if TYPE_CHECKING:
    from mmjax.data.bad import Bad

Example = dict[str, Any]
"""One example by batch key: numpy values, numbers, str, bytes, or None for an absent modality. No batch axis."""


class Reader(abc.ABC):
    """An opened source: random access to the examples of one split.

    A reader is pickled to the loader's worker processes: hold no open file that cannot be, or define `__reduce__`.
    """

    labels: dict[str, tuple[str, ...]]
    """Class names of the integer fields that have them, by batch key: `labels['answer'][2] == 'circle'`."""
    fingerprint: str
    """sha256 that changes when the data do: the same on every machine that holds the same files."""
    bad: 'Mapping[int, Bad]' = MappingProxyType({})
    """Rows that are known to be bad: what is read in their place is another's."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abc.abstractmethod
    def read(self, rows: Sequence[int]) -> list[Example]:
        """The examples of these row numbers, in this order. Every example has the same keys.

        Raises:
            BadExample: where one of them cannot be used, and others can.
        """

    def __getitem__(self, row: int) -> Example:
        if not 0 <= row < len(self):
            raise IndexError(f'row {row} of {len(self)}')
        return self.read([row])[0]


class Source(abc.ABC):
    """Where examples come from. Subclass it as a frozen dataclass whose fields say which examples are meant."""

    @abc.abstractmethod
    def open(self) -> Reader:
        """Finds, checks and opens the files. Raises UserError where they are missing or damaged."""


class Transform(abc.ABC):
    """Changes one example. Subclass it as a frozen dataclass.

    A transform with a field `key` concerns that one modality: it is given, and returns, the entries `key` and `key/…`
    alone, so that equal inputs can be transformed once. A transform without one is given the whole example. Either
    returns new entries and never writes into the arrays that it was given.
    """

    random: ClassVar[bool] = False
    """Whether it draws from `rng`. Such transforms augment training examples; evaluation leaves them out."""

    @abc.abstractmethod
    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        """The example with this transform's entries replaced. `rng` is None unless the transform is `random`."""


class Stream(abc.ABC):
    """Opened training data: an endless stream, of which each example is a pure function of (seed, its place).

    Epoch after epoch, `len(stream)` places each. A stream is pickled to the loader's worker processes.
    """

    @property
    @abc.abstractmethod
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Class names of integer fields, by batch key."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Identifies the files that are read."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Places of an epoch."""

    @abc.abstractmethod
    def examples(self, places: Sequence[int], *, seed: int) -> list[Example]:
        """What stands at these places, all transforms applied, each with `index`: which of the epoch's it is.

        In the place of a bad example stands another, with `BAD` and `WEIGHT` (see `bad.py`).
        """

    @abc.abstractmethod
    def mean(self, measure: 'Measure') -> float:
        """The mean over the places of an epoch of what `measure` says of an example."""


class Measure(abc.ABC):
    """How much an example is, in examples, tokens or seconds. Subclass it as a frozen dataclass."""

    @abc.abstractmethod
    def __call__(self, example: Example) -> float:
        """Of an example after the transforms that are not random.

        Raises:
            UserError: where it has no such field, or one that cannot be measured.
        """


class Feed(abc.ABC):
    """What a run trains on: `Data`, a `Mixture` of several, rows into which they are packed (`Packed`), or examples
    that have some fields of another (`Permuted`).

    workers: processes that read ahead; see `Data`.
    """

    workers: int

    @property
    @abc.abstractmethod
    def parts(self) -> dict[str, 'Data']:
        """The data by the name of their source in the mixture; '' where there is no mixture."""

    @abc.abstractmethod
    def open(self) -> Stream:
        """Finds, checks and opens the files. What is open already is shared.

        Raises:
            UserError: where they are missing or damaged, or do not fit together.
        """


@dataclass(frozen=True)
class Data(Feed):
    """Examples as a model reads them.

    source: where they come from.
    transforms: applied in order to each example. Those before the first random one are applied once if `cache` is on.
    cache: keep the transformed examples in memory. For sets that fit; turn it off for those that do not.
    workers: processes that read ahead, each with a copy of the cache. 0 reads ahead in a thread, which is right for
        cached and for small sets.
    shuffle: reorder the examples afresh in each epoch of training. Evaluation always goes in order.
    """

    source: Source
    transforms: tuple[Transform, ...] = ()
    cache: bool = True
    workers: int = 0
    shuffle: bool = True

    @property
    def parts(self) -> dict[str, 'Data']:
        return {'': self}

    def open(self) -> Stream:
        from mmjax.data.loader import open_data

        return open_data(self)


def apply(transform: Transform, example: Example, rng: np.random.Generator | None = None) -> Example:
    """One transform on one example, keyed transforms on the entries of their modality. Leaves `example` as it was."""
    key = getattr(transform, 'key', None)
    if key is None:
        return transform(example, rng)
    return example | transform(entries(example, key, asker=type(transform).__name__), rng)


def entries(example: Example, key: str, *, asker: str) -> Example:
    """The entries `key` and `key/…`. Raises UserError, in the name of `asker`, where the example has no `key`."""
    if key not in example:
        raise UserError(f"{asker}: examples have no '{key}'; they have {', '.join(example)}{nearest(key, example)}")
    return {name: value for name, value in example.items() if name == key or name.startswith(f'{key}/')}


def without_workers(data: Feed, *, holder: str) -> None:
    """Raises UserError where data that something else reads have workers, which it would not start."""
    if data.workers:
        raise UserError(f'{holder}: workers={data.workers} of the data in it start nothing; set workers of {holder}')
