"""What data is made of: a source of examples, transforms of one example, and `Data`, the two put together.

Sources, transforms and `Data` are frozen dataclasses: they are part of an experiment's config and cost nothing.
Reading starts with `Source.open`, which gives a `Reader`.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmjax.errors import UserError, nearest

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

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abc.abstractmethod
    def read(self, rows: Sequence[int]) -> list[Example]:
        """The examples of these row numbers, in this order. Every example has the same keys."""

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


@dataclass(frozen=True)
class Data:
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
