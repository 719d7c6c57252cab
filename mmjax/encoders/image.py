"""Images to tokens: patches through a transformer, or a convolutional network whose last grid is the tokens."""

from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, UInt8

from mmjax.encoders.base import Encoder
from mmjax.errors import UserError
from mmjax.nn.block import Block, Stack
from mmjax.nn.conv import Conv2d
from mmjax.nn.dense import Dense, activation
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.positions import Learned, Positions
from mmjax.types import Tokens


def to_float(pixels: UInt8[Array, '...'] | Float[Array, '...']) -> Float[Array, '...']:
    """Bytes 0..255 to -1..1; floats are taken as they are."""
    return pixels.astype(jnp.float32) / 127.5 - 1 if pixels.dtype == jnp.uint8 else pixels


class PatchEncoder(Encoder):
    """Vision transformer without its class token. Dosovitskiy et al. 2021, eq. 1-3.

    width: of a token. patch: side of a patch in pixels. depth, block: the transformer after the projection (0: only the
    projection, as in ViLT).
    """

    width: int = 128
    patch: int = 8
    depth: int = 2
    block: Block = field(default_factory=Block)
    positions: Positions = field(default_factory=Learned)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        _, height, width, _ = x.shape
        if height % self.patch or width % self.patch:
            raise UserError(
                f'image encoder: an image of {height}x{width} pixels is not made of patches of {self.patch}'
            )
        project = Dense((self.width,), ('patch', 'embed'), name='patches')
        pixels = rearrange(x, 'b (y p) (x q) c -> b (y x) (p q c)', p=self.patch, q=self.patch)
        values = project(to_float(pixels))
        values = self.positions.copy(name='place')(values, (height // self.patch, width // self.patch))
        tokens = Tokens.of(values, repeat(present, 'b -> b n', n=values.shape[1]))
        return Stack(self.block, self.depth, self.remat, self.unroll, name='stack')(tokens, train=train)


class ConvEncoder(Encoder):
    """Convolutions of stride 2, each followed by a norm and an activation; the cells of the last grid are the tokens.

    width: of a token. channels: features of each convolution; each halves the grid.
    """

    width: int = 128
    channels: tuple[int, ...] = (32, 64, 128)
    kernel: int = 3
    activation: str = 'relu'
    norm: Norm = field(default_factory=LayerNorm)
    positions: Positions = field(default_factory=Learned)

    @nn.compact
    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        y = to_float(x)
        for i, features in enumerate(self.channels):
            y = Conv2d(features, self.kernel, stride=2, name=f'conv_{i}')(y)
            y = activation(self.activation)(self.norm.copy(name=f'norm_{i}')(y))
        grid = y.shape[1:3]
        values = Dense((self.width,), ('channels', 'embed'), name='project')(rearrange(y, 'b y x c -> b (y x) c'))
        values = self.positions.copy(name='place')(values, grid)
        return Tokens.of(values, repeat(present, 'b -> b n', n=values.shape[1]))
