"""Weights and inputs that are the same wherever they are made: by name and shape, with NumPy alone.

Two programs import this: `scripts/foreign_blocks`, which fills the models of transformers with them, and the tests,
which fill ours.
"""

import zlib
from collections.abc import Sequence

import numpy as np

PATCH, SIDE = 4, 8  # of an image: 2 x 2 patches
VOCABULARY, LENGTH = 50, 7
CLS, SEP, EOS = 1, 2, 3


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """No vector is one or zero throughout, and matrices keep the scale of what they multiply: what hides behind an
    initial value would be seen, and a difference would not be lost in saturation.
    """
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        return np.asarray(draw * np.prod(shape[1:]) ** -0.5, np.float32)
    around = 1.0 if name.endswith('weight') or name == 'logit_scale' else 0.0
    return np.asarray(around + 0.3 * draw, np.float32)


def images() -> np.ndarray:
    """[b y x c]"""
    return np.random.default_rng(0).uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)


def ids() -> np.ndarray:
    """[b n]: rows that start with CLS, have a SEP in them and end with EOS; 0 is padding."""
    rows = np.random.default_rng(1).integers(EOS + 1, VOCABULARY, (3, LENGTH))
    rows[:, 0], rows[:, 3] = CLS, SEP
    for row, length in zip(rows, (7, 5, 6), strict=True):
        row[length - 1], row[length:] = EOS, 0
    return rows


def filled_ids() -> np.ndarray:
    """[b n]: `ids`, with EOS in the place of padding."""
    return np.where(ids() == 0, EOS, ids())


def types() -> np.ndarray:
    """[b n]: 0 up to the SEP of `ids`, 1 after it."""
    return np.tile(np.arange(LENGTH) > 3, (3, 1)).astype(np.int64)
