"""Transformed examples kept in memory, each distinct value once."""

import hashlib
import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mmjax.data.bad import FAR, Bad, check_keys, readable
from mmjax.data.base import Example, Reader, Transform, apply, entries
from mmjax.errors import BadExample, UserError

READ_AT_ONCE = 1024
MEMORY_SHARE = 0.5  # of the machine's memory: the rest is for the model


class Cached(Reader):
    """The examples of `reader` after `transforms`, which must not be random.

    Each transform runs once for each distinct input, and its output is stored once: 38,575 questions about 4,000
    images hold 4,000 decoded images. Values are read-only views of the store. Raises UserError where the store grows
    over half of the machine's memory. `bad` holds the rows that cannot be used.
    """

    def __init__(self, reader: Reader, transforms: Sequence[Transform]):
        self.labels = reader.labels
        self.fingerprint = reader.fingerprint
        self._length = len(reader)
        self._columns: dict[str, _Column] = {}
        bad: dict[int, Bad] = {}
        self.bad = bad
        memo: dict[Hashable, Example] = {}
        good: list[int] = []
        limit = MEMORY_SHARE * os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        for start in range(0, self._length, READ_AT_ONCE):
            for row, example in readable(reader, range(start, min(start + READ_AT_ONCE, self._length))):
                try:
                    if isinstance(example, BadExample):
                        raise example
                    for position, transform in enumerate(transforms):
                        example = _apply_once(transform, example, position, memo)
                    check_keys(example, self._columns or example)
                except BadExample as error:
                    bad[row] = Bad(row, error.reason, str(error))
                    if not good and row == min(FAR, self._length - 1):  # it is not the examples that are wrong
                        raise
                    continue
                good.append(row)
                self._columns = self._columns or {key: _Column() for key in example}
                for key, value in example.items():
                    self._columns[key].add(value)
            size = sum(column.size for column in self._columns.values())
            if size > limit:
                raise UserError(
                    f'cache: {start + READ_AT_ONCE:,} of {self._length:,} examples take {size / 2**30:.1f} GiB, '
                    f'over half of the memory ({2 * limit / 2**30:.1f} GiB); set cache=False'
                )
        # In the place of a bad one stands the next that is good: what is there is never used, but has its shapes.
        self._at = np.searchsorted(good, np.arange(self._length)).clip(max=len(good) - 1) if self.bad else None
        for column in self._columns.values():
            column.pack()

    def __len__(self) -> int:
        return self._length

    def read(self, rows: Sequence[int]) -> list[Example]:
        if self._at is not None:
            rows = self._at[list(rows)].tolist()
        columns = [(key, column.values, column.rows) for key, column in self._columns.items()]
        return [{key: values[at[row]] for key, values, at in columns} for row in rows]


class _Column:
    """One entry of all examples: the distinct values and, for each row, which one it has."""

    def __init__(self):
        self.values: Any = []
        self.rows: Any = []
        self.size = 0
        self._seen: dict[int, int] = {}

    def add(self, value: Any) -> None:
        # Outputs of one transform for equal inputs are one object; `values` keeps every object, and its id, alive.
        at = self._seen.get(id(value))
        if at is None:
            at = self._seen[id(value)] = len(self.values)
            self.values.append(value)
            self.size += getattr(value, 'nbytes', 0) or len(value) if isinstance(value, (bytes, str, np.ndarray)) else 8
        self.rows.append(at)

    def pack(self) -> None:
        """Turns the values into one array where they have one shape and type; text and ragged values stay a list."""
        self._seen = {}
        self.rows = np.array(self.rows, np.int32)
        arrays = [np.asarray(value) for value in self.values]
        if len({(array.shape, array.dtype) for array in arrays}) == 1 and arrays[0].dtype.kind in 'biuf':
            self.values = np.stack(arrays)
            self.values.flags.writeable = False


def _apply_once(transform: Transform, example: Example, position: int, memo: dict[Hashable, Example]) -> Example:
    key = getattr(transform, 'key', None)
    if key is None:
        return apply(transform, example)
    own = entries(example, key, asker=type(transform).__name__)
    identity = (position, *((name, _identity(value)) for name, value in own.items()))
    if identity not in memo:
        memo[identity] = transform(own)
    return example | memo[identity]


def _identity(value: Any) -> Hashable:
    """Equal for equal values, and small: the encoded originals are not kept."""
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).digest()
    if isinstance(value, np.ndarray) and value.dtype.kind != 'O':
        digest = hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=16).digest()
        return value.shape, value.dtype.str, digest
    if value is None or isinstance(value, (str, int, float, np.generic)):
        return type(value), value
    return object()  # equal to nothing else: transformed on its own
