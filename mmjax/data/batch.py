"""From a list of examples to one batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmjax.data.bad import check_keys
from mmjax.data.base import Example
from mmjax.errors import UserError

NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32, np.dtype(np.float64): np.float32}
"""64-bit numbers leave as 32-bit ones, which is what JAX would make of them."""


def stack(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """Stacks each entry along a new first axis. Raises UserError where that cannot be done, with what would do."""
    keys = examples[0].keys()
    for example in examples:
        check_keys(example, keys)
    return {key: _stack(key, [example[key] for example in examples]) for key in keys}


def _stack(key: str, values: list[Any]) -> np.ndarray:
    arrays = [np.asarray(value) for value in values]
    first = arrays[0]
    for value, array in zip(values, arrays, strict=True):
        if array.dtype.kind not in 'biuf':
            raise UserError(
                f"'{key}' is {type(value).__name__}, not a numeric array; add a transform for it "
                '(Words or Bytes for text, Image for encoded images) or leave the field out'
            )
        if array.shape != first.shape or array.dtype != first.dtype:
            raise UserError(
                f"'{key}' is {first.dtype} {list(first.shape)} in one example and {array.dtype} {list(array.shape)} in "
                'another; add a transform that gives them one shape (Image(size=…), Words(length=…))'
            )
    stacked = np.stack(arrays)
    return stacked.astype(NARROW.get(stacked.dtype, stacked.dtype), copy=False)
