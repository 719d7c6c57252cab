"""One of several values that an example has of a modality, such as captions or names in several languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmjax.data.base import Example, Transform
from mmjax.errors import UserError


@dataclass(frozen=True)
class Item(Transform):
    """The value at `place` of the list `key`."""

    key: str
    place: int = 0

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return example | {self.key: _at(self, example[self.key], self.place)}


@dataclass(frozen=True)
class AnyItem(Transform):
    """One value of the list `key`, another each time: of those at `places`, or (without) of all. For training."""

    key: str
    places: tuple[int, ...] = ()
    random: ClassVar[bool] = True

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        values = example[self.key]
        places = self.places or range(len(values))
        if not places:
            raise UserError(f'{type(self).__name__}: an example has no {self.key} to choose from')
        return example | {self.key: _at(self, values, places[int(rng.integers(len(places)))])}


def _at(asker: Item | AnyItem, values: Sequence[Any], place: int) -> Any:
    if isinstance(values, (str, bytes)) or not 0 <= place < len(values):
        found = f'{len(values)} of them' if not isinstance(values, (str, bytes)) else 'one text, not a list'
        raise UserError(f"{type(asker).__name__}: no place {place} in '{asker.key}', an example has {found}")
    return values[place]
