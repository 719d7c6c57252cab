"""Where a patch stands in an image of any shape: a row and a column, told with each token."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from mmjax.errors import UserError
from mmjax.nn.parameter import parameter


class Places(nn.Module):
    """Base of the embeddings of places; an encoder holds one as a template."""

    def __call__(self, x: Float[Array, 'b n d'], yx: Int[Array, 'b n 2'], grid: Int[Array, 'b n 2']) -> Array:
        """x with its places added. yx: row and column of each token; grid: how many its image has of each."""
        raise NotImplementedError


class SinCosPlaces(Places):
    """Fixed sines and cosines of the row and the column, each in half of the width: the table of `SinCos` at any place.

    Raises:
        UserError: where the width is no multiple of 4.
    """

    temperature: float = 10_000.0

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d'], yx: Int[Array, 'b n 2'], grid: Int[Array, 'b n 2']) -> Array:
        width = x.shape[-1]
        if width % 4:
            raise UserError(f'places: width {width} does not divide by 4 (sine and cosine of 2 axes)')
        frequencies = self.temperature ** (-jnp.arange(width // 4) / (width // 4))
        angles = yx[..., None] * frequencies
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-2)  # of each of the two axes s, both waves w
        return x + rearrange(waves, 'b n s w k -> b n (s w k)').astype(x.dtype)


class LearnedPlaces(Places):
    """A grid of learned vectors N(0, 0.02^2), stretched over each image and read bilinearly at the middle of each
    patch: what NaFlex does with its grid (Tschannen et al. 2025, SigLIP 2), without the smoothing before it shrinks.

    rows, columns: of the grid. On an image of that many patches it is the table of `Learned`.
    """

    rows: int = 16
    columns: int = 16

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d'], yx: Int[Array, 'b n 2'], grid: Int[Array, 'b n 2']) -> Array:
        table = parameter(self, 'embedding', (self.rows * self.columns, x.shape[-1]), ('positions', 'embed'))
        size = jnp.array([self.rows, self.columns])
        at = jnp.clip((yx + 0.5) * size / grid - 0.5, 0, size - 1)
        low = jnp.floor(at).astype(jnp.int32)
        high, part = jnp.minimum(low + 1, size - 1), at - low
        added = 0
        for y, wy in ((low[..., 0], 1 - part[..., 0]), (high[..., 0], part[..., 0])):
            for column, wx in ((low[..., 1], 1 - part[..., 1]), (high[..., 1], part[..., 1])):
                added += (wy * wx)[..., None] * jnp.take(table, y * self.columns + column, axis=0)
        return x + jnp.asarray(added).astype(x.dtype)
