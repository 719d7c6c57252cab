"""Fusion by convolution over an aligned grid."""

from collections.abc import Mapping, Sequence
from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float

from mmjax.errors import UserError, nearest
from mmjax.fusion.base import Flow, Fusion
from mmjax.nn.conv import Conv2d
from mmjax.nn.dense import activation
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.types import Fused, Tokens, masked_mean


class Grid(Fusion):
    """The channels of all modalities side by side on one grid, then `depth` convolutions; the cells are `shared`.

    Convolutional fusion of Feichtenhofer et al. 2016 (section 3.1), for modalities whose cells lie on one another
    (colour and depth, sound and spectrogram). on_grid: the modalities with `rows` x `columns` tokens in raster order;
    every other one is pooled and laid on each cell. A cell without data, as one outside the grid, is left out of
    the sum, which is scaled up for it (partial convolution, Liu et al. 2018, eq. 1, without bias). After the first
    convolution each is residual: x += act(conv(norm(x))).
    """

    rows: int = 4
    columns: int = 4
    on_grid: tuple[str, ...] = ('image',)
    depth: int = 2
    kernel: int = 3
    activation: str = 'gelu'
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        mods = self.enter(mods)
        if self.depth < 1:
            raise UserError(f'grid: depth {self.depth}: at least one convolution')
        for name in self.on_grid:
            if name not in mods:
                raise UserError(f"grid: on_grid: no modality '{name}'{nearest(name, mods)} (there are {sorted(mods)})")
        laid = {name: self._lay(name, x) for name, x in mods.items()}
        values = jnp.concatenate([x * mask for x, mask in laid.values()], axis=-1)
        masks = jnp.concatenate([mask for _, mask in laid.values()], axis=-1)
        width = values.shape[-1] // len(laid)
        share = masks.astype(values.dtype).mean(axis=-1, keepdims=True)  # of the modalities that a cell has
        x = self._conv('conv_0', values, share, features=width)
        there = share > 0
        for i in range(1, self.depth):
            y = self.norm.copy(name=f'norm_{i}')(x) * there
            x = x + activation(self.activation)(self._conv(f'conv_{i}', y, there.astype(y.dtype), features=width))
        cells = Tokens.of(rearrange(x, 'b y x d -> b (y x) d'), rearrange(there, 'b y x 1 -> b (y x)'))
        return Fused(mods, shared=cells)

    def _conv(
        self, name: str, x: Float[Array, 'b y x c'], share: Float[Array, 'b y x 1'], *, features: int
    ) -> Float[Array, 'b y x d']:
        window = jnp.ones((self.kernel, self.kernel, 1, 1), x.dtype)
        seen = jax.lax.conv_general_dilated(share, window, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
        y = Conv2d(features, self.kernel, bias=False, name=name)(x)
        return y * jnp.where(seen > 0, self.kernel**2 / jnp.maximum(seen, 1e-6), 0)

    def _lay(self, name: str, tokens: Tokens) -> tuple[Float[Array, 'b y x d'], Bool[Array, 'b y x 1']]:
        if name not in self.on_grid:
            place = 'b d -> b y x d'
            sizes = {'y': self.rows, 'x': self.columns}
            return repeat(masked_mean(tokens), place, **sizes), repeat(tokens.present[:, None], place, **sizes)
        n = tokens.mask.shape[1]
        if n != self.rows * self.columns:
            raise UserError(
                f'grid: {name} has {n} tokens, which are not {self.rows} rows x {self.columns} columns; set '
                'fusion.rows and fusion.columns, or take it out of fusion.on_grid'
            )
        sizes = {'y': self.rows, 'x': self.columns}
        return (
            rearrange(tokens.values, 'b (y x) d -> b y x d', **sizes),
            rearrange(tokens.mask, 'b (y x) -> b y x 1', **sizes),
        )

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {('shared', name): 0 for name in modalities}
