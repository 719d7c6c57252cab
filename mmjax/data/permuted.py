"""A split whose examples have some fields of one another: labels that have nothing to do with their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.errors import UserError


@dataclass(frozen=True)
class Permuted(Source):
    """The source, with some fields of its examples permuted over the whole split, all of them alike, as `seed` says.

    Each value stays as frequent as it was and tells nothing of its example. Values that change places within a batch
    (the view `Mismatched`) are not that: each one is known not to be the example's own, so the others of the batch
    tell against the true one, and models that learned from such labels came out below chance. A field `f` brings all
    `f/…` along.

    Raises:
        UserError: at opening, where the source has no such field.
    """

    source: Source
    fields: tuple[str, ...]
    seed: int = 0

    def open(self) -> Reader:
        return _Permuted(self.source.open(), self.fields, self.seed)


class _Permuted(Reader):
    def __init__(self, reader: Reader, fields: tuple[str, ...], seed: int):
        there = sorted(reader[0]) if len(reader) else fields
        if missing := [name for name in fields if name not in there]:
            raise UserError(f"permuted.fields: the source has no '{missing[0]}' (it has {list(there)})")
        self._moved = [name for name in there if any(name == f or name.startswith(f'{f}/') for f in fields)]
        self.labels = reader.labels
        self.fingerprint = f'{reader.fingerprint}/permuted/{"+".join(fields)}/{seed}'
        self._reader, self._giver = reader, np.random.default_rng(seed).permutation(len(reader))

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, rows: Sequence[int]) -> list[Example]:
        own, others = self._reader.read(rows), self._reader.read(self._giver[list(rows)].tolist())
        return [x | {name: other[name] for name in self._moved} for x, other in zip(own, others, strict=True)]
