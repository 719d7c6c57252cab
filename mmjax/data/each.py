"""A row for each of the values that an example has of a modality, where a list is to be read in full."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.errors import UserError, nearest


@dataclass(frozen=True)
class Each(Source):
    """A source with `count` rows for each of its examples, one for each of the first values of the list `key`:

        image 0, captions a b c        image 0, caption a
        image 1, captions d e f   ->   image 0, caption b
                                       image 1, caption d
                                       image 1, caption e        (count 2)

    Values beyond `count` are left out. Reading an example that has fewer raises UserError.
    """

    source: Source
    key: str
    count: int

    def __post_init__(self):
        if self.count < 1:
            raise UserError(f'Each.count is {self.count}: use a positive number of values')

    def open(self) -> Reader:
        return _Each(self.source.open(), self.key, self.count)


class _Each(Reader):
    def __init__(self, reader: Reader, key: str, count: int):
        self.labels, self.fingerprint = reader.labels, f'{reader.fingerprint}/each/{key}/{count}'
        self._reader, self._key, self._count = reader, key, count

    def __len__(self) -> int:
        return len(self._reader) * self._count

    def read(self, rows: Sequence[int]) -> list[Example]:
        owners = sorted({row // self._count for row in rows})  # each is read once, however many of its values are asked
        examples = dict(zip(owners, self._reader.read(owners), strict=True))
        return [self._one(row, examples[row // self._count]) for row in rows]

    def _one(self, row: int, example: Example) -> Example:
        key, place = self._key, row % self._count
        if key not in example:
            raise UserError(f"Each: examples have no '{key}'; they have {', '.join(example)}{nearest(key, example)}")
        values = example[key]
        if not isinstance(values, (list, tuple, np.ndarray)):
            raise UserError(f"Each: '{key}' is {type(values).__name__}; it takes a list, such as all captions")
        if len(values) < self._count:
            raise UserError(
                f"Each: example {row // self._count} has {len(values)} of '{key}', fewer than count={self._count}"
            )
        return example | {key: values[place]}
