"""The position-wise half of a transformer block."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmjax.nn.dense import Dense, activation
from mmjax.sharding import constrain


class FeedForward(nn.Module):
    """Base of the position-wise networks; a Block holds one as a template.

    ratio: hidden width / token width.
    """

    ratio: float = 4.0
    activation: str = 'gelu'
    bias: bool = True

    def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
        raise NotImplementedError


class Mlp(FeedForward):
    """W2 act(W1 x). Vaswani et al. 2017, eq. 2."""

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
        width = x.shape[-1]
        y = Dense((round(width * self.ratio),), ('embed', 'mlp'), self.bias, name='up')(x)
        y = constrain(activation(self.activation)(y), 'batch', 'length', 'mlp')
        return Dense((width,), ('mlp', 'embed'), self.bias, name='down')(y)


class SwiGLU(FeedForward):
    """W2 (act(W1 x) * V x). Shazeer 2020, eq. 6; the ratio of 8/3 keeps the parameters of an Mlp of ratio 4."""

    ratio: float = 8 / 3
    activation: str = 'silu'
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
        width, hidden = x.shape[-1], (round(x.shape[-1] * self.ratio),)
        gate = activation(self.activation)(Dense(hidden, ('embed', 'mlp'), self.bias, name='gate')(x))
        y = constrain(gate * Dense(hidden, ('embed', 'mlp'), self.bias, name='up')(x), 'batch', 'length', 'mlp')
        return Dense((width,), ('mlp', 'embed'), self.bias, name='down')(y)
