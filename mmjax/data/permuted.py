"""A split whose examples have some fields of one another: labels that have nothing to do with their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.errors import UserError


@dataclass(frozen=True)
class Permuted(Source):
    """The source, with the entries `fields` of its examples permuted over the whole split, all alike, as `seed` says.

    Each value stays as frequent as it was and tells nothing of its example. Values that change places within a batch
    (the view `Mismatched`) are not that: each one is known not to be the example's own, so the others of the batch
    tell against the true one, and clipped gradients teach it.

    Raises:
        UserError: at reading, where the source has no such entry.
    """

    source: Source
    fields: tuple[str, ...]
    seed: int = 0

    def open(self) -> Reader:
        return _Permuted(self.source.open(), self.fields, self.seed)


class _Permuted(Reader):
    def __init__(self, reader: Reader, fields: tuple[str, ...], seed: int):
        self.labels = reader.labels
        self.fingerprint = f'{reader.fingerprint}/permuted/{"+".join(fields)}/{seed}'
        self._reader, self._fields = reader, fields
        self._giver = np.random.default_rng(seed).permutation(len(reader))

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, rows: Sequence[int]) -> list[Example]:
        own, others = self._reader.read(rows), self._reader.read(self._giver[list(rows)].tolist())
        for name in self._fields:
            if own and name not in own[0]:
                raise UserError(f"permuted.fields: the source has no '{name}' (it has {sorted(own[0])})")
        return [
            example | {name: other[name] for name in self._fields} for example, other in zip(own, others, strict=True)
        ]
