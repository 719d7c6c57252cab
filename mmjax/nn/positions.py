"""Where a token stands: added to its values (learned, sine-cosine) or turned into queries and keys (rotary)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from mmjax.errors import UserError
from mmjax.nn.parameter import parameter


class Positions(nn.Module):
    """Base of the position embeddings; an encoder holds one as a template."""

    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b n d']:
        """x with positions added.

        grid: (n,) for a sequence, (rows, columns) for an image in raster order. positions: which place of the grid
        each token stands at; without them, the n tokens are the grid.
        """
        raise NotImplementedError


class NoPositions(Positions):
    """For tokens whose place says nothing, or is told by rotary attention."""

    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b n d']:
        return x


class Learned(Positions):
    """One learned vector a position, N(0, 0.02^2). Dosovitskiy et al. 2021, eq. 1.

    length: how many there are; 0: as many as the grid has places that the model is made with. Say it where longer
    inputs are to come; a shorter sequence stands at the first of them. A row of several packed sequences, whose
    `positions` begin anew with each, may be longer; a place beyond the last is NaN (training asks whether the model can
    read each sequence by itself, `train.checks`).

    Raises:
        UserError: where the grid of one sequence has more places than there are vectors.
    """

    length: int = field(default=0, metadata={'old': 0})

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b n d']:
        places, length = math.prod(grid), self._length(grid)
        if places > length and positions is None:
            raise UserError(f'positions.length: {length} learned positions, but {places} places to stand at')
        table = parameter(self, 'embedding', (length, x.shape[-1]), ('positions', 'embed'))
        return x + (table[:places] if positions is None else jnp.take(table, positions, axis=0)).astype(x.dtype)

    def _length(self, grid: Sequence[int]) -> int:
        if not self.length and len(grid) == 1 and self.has_variable('params', 'embedding'):
            return nn.meta.unbox(self.get_variable('params', 'embedding')).shape[0]
        return self.length or math.prod(grid)


class SinCos(Positions):
    """Fixed sines and cosines. Vaswani et al. 2017, section 3.5; each axis of a grid gets an equal part of the width.

    For two axes this is the embedding of Beyer et al. 2022 ("Better plain ViT baselines").
    """

    temperature: float = 10_000.0

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b n d']:
        if positions is not None and len(grid) == 1:  # which may be anywhere: the grid is but the tokens of this call
            angles = positions[:, :, None] * _frequencies(x.shape[-1], self.temperature)
            return x + jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).astype(x.dtype)
        table = jnp.asarray(sincos_table(grid, width=x.shape[-1], temperature=self.temperature), x.dtype)
        return x + (table if positions is None else jnp.take(table, positions, axis=0))


def _frequencies(width: int, temperature: float, *, axes: int = 1) -> np.ndarray:
    if width % (2 * axes):
        raise UserError(f'positions: width {width} does not divide by {2 * axes} (sine and cosine of {axes} axes)')
    count = width // (2 * axes)
    return temperature ** (-np.arange(count) / count)


def sincos_table(grid: Sequence[int], *, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """Returns [prod(grid), width]: per grid axis, sines then cosines of geometric frequencies.

    Raises:
        UserError: where the width is no multiple of 2 x the number of axes.
    """
    frequencies = _frequencies(width, temperature, axes=len(grid))
    columns = []
    for coordinate in np.unravel_index(np.arange(math.prod(grid)), tuple(grid)):
        angles = coordinate[:, None] * frequencies
        columns += [np.sin(angles), np.cos(angles)]
    return np.concatenate(columns, axis=1)


def rotate(
    x: Float[Array, 'b n h k'], positions: Int[Array, 'b n'], *, base: float = 10_000.0
) -> Float[Array, 'b n h k']:
    """Rotary embedding. Su et al. 2021, eq. 34, with the halves of a head as real and imaginary parts (GPT-NeoX order).

    The scores of rotated queries and keys depend on the difference of their positions only.

    Raises:
        UserError: where the width of a head is odd.
    """
    if x.shape[-1] % 2:
        raise UserError(f'rotary: turns pairs of numbers, and a head of {x.shape[-1]} is odd; choose other heads')
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half) / half)
    angles = rearrange(positions[..., None] * frequencies, 'b n k -> b n 1 k')
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    real, imaginary = x[..., :half], x[..., half:]
    return jnp.concatenate([real * cos - imaginary * sin, imaginary * cos + real * sin], axis=-1)


@dataclass(frozen=True)
class Rotation:
    """Base of the rotary forms; an attention holds one as a template. base: of the geometric frequencies."""

    base: float = 10_000.0

    def __call__(self, x: Float[Array, 'b n h k'], positions: Int[Array, 'b n']) -> Float[Array, 'b n h k']:
        raise NotImplementedError


@dataclass(frozen=True)
class Halves(Rotation):
    """Number i of a head is turned with number i + width / 2: GPT-NeoX, Llama, Gemma as transformers keeps them."""

    def __call__(self, x: Float[Array, 'b n h k'], positions: Int[Array, 'b n']) -> Float[Array, 'b n h k']:
        return rotate(x, positions, base=self.base)


@dataclass(frozen=True)
class Interleaved(Rotation):
    """Number 2i of a head is turned with number 2i + 1: RoFormer (Su et al. 2021, eq. 34), GPT-J, Llama as released."""

    def __call__(self, x: Float[Array, 'b n h k'], positions: Int[Array, 'b n']) -> Float[Array, 'b n h k']:
        if x.shape[-1] % 2:
            return rotate(x, positions)  # which says what is wrong
        y = rotate(rearrange(x, 'b n h (k two) -> b n h (two k)', two=2), positions, base=self.base)
        return rearrange(y, 'b n h (two k) -> b n h (k two)', two=2)
