"""One of several values that an example has of a modality, such as captions or names in several languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmjax.data.base import Example, Transform
from mmjax.errors import UserError


@dataclass(frozen=True)
class Item(Transform):
    """The value at `place` of the list `key`. A single value, and None for what is absent, stay as they are."""

    key: str
    place: int = 0

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        return example | {self.key: _at(self, example[self.key], (self.place,))[0]}


@dataclass(frozen=True)
class AnyItem(Transform):
    """One value of the list `key`, another each time: of those at `places`, or (without) of all. For training.

    A single value, and None for what is absent, stay as they are.
    """

    key: str
    places: tuple[int, ...] = ()
    random: ClassVar[bool] = True

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        values = _at(self, example[self.key], self.places)
        if not values:
            raise UserError(f'{type(self).__name__}: an example has no {self.key} to choose from')
        return example | {self.key: values[int(rng.integers(len(values)))]}


def _at(asker: Item | AnyItem, values: Any, places: Sequence[int]) -> Sequence[Any]:
    """The values at these places, or all."""
    if values is None or isinstance(values, (str, bytes)):
        return [values]
    for place in places:
        if not 0 <= place < len(values):
            name, n = type(asker).__name__, len(values)
            raise UserError(f"{name}: no place {place} in '{asker.key}', of which an example has {n}")
    return [values[place] for place in places] if places else list(values)
