"""An example whose one field stands in another data set: many questions about one image, which is stored once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.errors import UserError, nearest


@dataclass(frozen=True)
class Lookup(Source):
    """The rows of `source`, in which `key` is a row number of `there`, with the `key` of that row in its place:

    question, image: 7   +   row 7 of the images   ->   question, image: its bytes
    """

    source: Source
    there: Source
    key: str = 'image'

    def open(self) -> Reader:
        return _Lookup(self.source.open(), self.there.open(), self.key)


class _Lookup(Reader):
    def __init__(self, reader: Reader, there: Reader, key: str):
        self.labels, self.fingerprint = there.labels | reader.labels, f'{reader.fingerprint}/{key}/{there.fingerprint}'
        self._reader, self._there, self._key = reader, there, key

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, rows: Sequence[int]) -> list[Example]:
        examples = self._reader.read(rows)
        numbers = [self._number(example) for example in examples]
        wanted = sorted(set(numbers))
        found = dict(zip(wanted, self._there.read(wanted), strict=True))
        return [
            example | {self._key: _value(self._key, found[number])}
            for example, number in zip(examples, numbers, strict=True)
        ]

    def _number(self, example: Example) -> int:
        number = _value(self._key, example)
        if not isinstance(number, (int, np.integer)) or not 0 <= number < len(self._there):
            raise UserError(
                f"Lookup: '{self._key}' of an example is {number!r}, no row number of a source of {len(self._there)}"
            )
        return int(number)


def _value(key: str, example: Example) -> object:
    if key not in example:
        raise UserError(f"Lookup: an example has no '{key}'; it has {', '.join(example)}{nearest(key, example)}")
    return example[key]
