"""How much an example is: what a mixture weighs sources by, and what a packed row has room for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from mmjax.data.base import Example, Measure
from mmjax.data.tokenizer import PAD_ID
from mmjax.errors import UserError, nearest


@dataclass(frozen=True)
class Examples(Measure):
    """Each counts 1."""

    def __call__(self, example: Example) -> float:
        return 1.0


@dataclass(frozen=True)
class Tokens(Measure):
    """The tokens that a model reads.

    keys: sequences, of which the real places count: ids that are not padding, or where `{key}/mask` is true. each: how
    many tokens a whole modality makes, where it is present: `{'image': 64}`.
    """

    keys: tuple[str, ...] = ('text',)
    each: dict[str, int] = field(default_factory=dict)

    def __call__(self, example: Example) -> float:
        sequences = sum(int(real_places(example, key).sum()) for key in self.keys)
        return float(sequences + sum(n * is_present(example, key) for key, n in self.each.items()))


@dataclass(frozen=True)
class Seconds(Measure):
    """How long a sound or a video lasts: the places of `key` along its first axis, those of `{key}/mask` where it has
    one, divided by `rate`, places a second; 0 where it is absent.
    """

    rate: float
    key: str = 'audio'

    def __post_init__(self):
        if not self.rate > 0:
            raise UserError(f'Seconds.rate is {self.rate}: use a positive number of places a second')

    def __call__(self, example: Example) -> float:
        if not is_present(example, self.key):
            return 0.0
        mask = example.get(f'{self.key}/mask')
        return float(len(_array(example, self.key)) if mask is None else np.sum(mask)) / self.rate


def is_present(example: Mapping[str, Any], key: str) -> bool:
    """Whether the example has this modality."""
    if key not in example:
        raise UserError(f"measure: examples have no '{key}'; they have {', '.join(example)}{nearest(key, example)}")
    return example[key] is not None and bool(example.get(f'{key}/present', True))


def real_places(example: Mapping[str, Any], key: str) -> Bool[np.ndarray, '_n']:
    """Which places of a sequence hold a token: by its `{key}/mask`, else those of ids that are not padding.

    Raises:
        UserError: where there is no such field, or none that is a sequence of ids or has a mask.
    """
    there = is_present(example, key)
    value, mask = _array(example, key), example.get(f'{key}/mask')
    if mask is not None:
        return np.asarray(mask, bool) & there
    if value.ndim != 1 or value.dtype.kind not in 'iu':
        raise UserError(
            f"measure: '{key}' is {value.dtype} {list(value.shape)}: no sequence of ids, and without '{key}/mask'"
        )
    return (value != PAD_ID) & there


def _array(example: Mapping[str, Any], key: str) -> np.ndarray:
    value = example[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'biuf' or not value.ndim:
        raise UserError(
            f"measure: '{key}' is {type(value).__name__} after the transforms that are not random, which fix how long "
            'an example is; put its tokenizer or decoder before the first random transform (and `Each` in place of '
            '`AnyItem`)'
        )
    return value
