"""What else a tower does to its tokens before the first layer, wrapped around their positions.

CLIP's image tower, a class token, positions and a norm over all of it: `positions=Normed(Classed(Learned()))`.
"""

from collections.abc import Sequence
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from einops import repeat
from jaxtyping import Array, Float, Int

from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.parameter import parameter
from mmjax.nn.positions import Learned, NoPositions, Positions


class Scaled(Positions):
    """sqrt(width) times the embedding, before positions are added (Vaswani et al. 2017, section 3.4); Gemma."""

    positions: Positions = field(default_factory=NoPositions)

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b n d']:
        return self.positions.copy(name='inner')(x * jnp.asarray(x.shape[-1] ** 0.5, x.dtype), grid, positions)


class Normed(Positions):
    """A norm over tokens that have their positions: BERT's embedding norm, CLIP's "pre" norm."""

    positions: Positions = field(default_factory=Learned)
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b m d']:
        return self.norm.copy(name='norm_embedded')(self.positions.copy(name='inner')(x, grid, positions))


class Classed(Positions):
    """A learned token N(0, 0.02^2) before the others (Dosovitskiy et al. 2021, eq. 1), for images and vectors.

    Only the others have positions: one that is always first needs none. Where a model adds a position to it, its
    weights hold the sum.
    """

    positions: Positions = field(default_factory=Learned)

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b n d'], grid: Sequence[int], positions: Int[Array, 'b n'] | None = None
    ) -> Float[Array, 'b m d']:
        token = parameter(self, 'class_token', x.shape[-1:], ('embed',)).astype(x.dtype)
        x = self.positions.copy(name='inner')(x, grid, positions)
        return jnp.concatenate([repeat(token, 'd -> b 1 d', b=x.shape[0]), x], axis=1)
