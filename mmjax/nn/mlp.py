"""The position-wise half of a transformer block."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from mmjax.nn.dense import Dense, activation
from mmjax.sharding import constrain


class FeedForward(nn.Module):
    """Base of the position-wise networks, W2 h(W1 x): a Block holds one as a template.

    ratio: hidden width / token width. What stands between the matrices is told by `inner` and `hidden`, so that a
    network can also be one of many experts (see nn/experts.py).
    """

    inner: ClassVar[tuple[str, ...]] = ('up',)  # names of the matrices from tokens to the hidden width

    ratio: float = 4.0
    activation: str = 'gelu'
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
        width = x.shape[-1]
        up = [Dense((self.size(width),), ('embed', 'mlp'), self.bias, name=name)(x) for name in self.inner]
        up = [checkpoint_name(constrain(y, 'batch', 'length', 'mlp'), 'hidden') for y in up]
        y = constrain(self.hidden(*up), 'batch', 'length', 'mlp')
        return Dense((width,), ('mlp', 'embed'), self.bias, name='down')(y)

    def size(self, width: int) -> int:
        """The hidden width for tokens of `width` numbers."""
        return round(width * self.ratio)

    def hidden(self, *up: Float[Array, '... f']) -> Float[Array, '... f']:
        """The hidden units, from x times each matrix of `inner`."""
        raise NotImplementedError


class Mlp(FeedForward):
    """W2 act(W1 x). Vaswani et al. 2017, eq. 2."""

    def hidden(self, *up: Float[Array, '... f']) -> Float[Array, '... f']:
        return activation(self.activation)(up[0])


class SwiGLU(FeedForward):
    """W2 (act(W1 x) * V x). Shazeer 2020, eq. 6; the ratio of 8/3 keeps the parameters of an Mlp of ratio 4."""

    inner: ClassVar[tuple[str, ...]] = ('gate', 'up')

    ratio: float = 8 / 3
    activation: str = 'silu'
    bias: bool = False

    def hidden(self, *up: Float[Array, '... f']) -> Float[Array, '... f']:
        return _gated(self.activation, *up)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gated(name: str, gate: Float[Array, '... f'], value: Float[Array, '... f']) -> Float[Array, '... f']:
    """act(gate) * value. Its backward pass starts from the two again, in float32, so that nothing between them is kept:
    XLA would write out the activation, its slope and the product, each of the hidden width.
    """
    return activation(name)(gate) * value


def _gated_forward(name: str, gate: Array, value: Array) -> tuple[Array, tuple[Array, Array]]:
    return _gated(name, gate, value), (gate, value)


def _gated_backward(name: str, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    gate, value, slope32 = (x.astype(jnp.float32) for x in (*kept, slope))
    y, pull = jax.vjp(activation(name), gate)
    return pull(slope32 * value)[0].astype(slope.dtype), (slope32 * y).astype(slope.dtype)


_gated.defvjp(_gated_forward, _gated_backward)
