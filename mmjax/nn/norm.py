"""Normalisation over the last axis. Statistics in float32 whatever the compute dtype."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.nn.parameter import parameter
from mmjax.sharding import constrain


class Norm(nn.Module):
    """Base of the norms; a Block holds one as a template."""

    epsilon: float = 1e-6

    def __call__(self, x: Float[Array, '... d']) -> Float[Array, '... d']:
        raise NotImplementedError


def _vector(module: nn.Module, name: str, init: nn.initializers.Initializer, size: int) -> Float[Array, 'd']:
    # Whole where it is used: else what is normalised would be cut as it is, along the width.
    return constrain(parameter(module, name, (size,), ('embed',), init), 'embed')


class NoNorm(Norm):
    """The identity: for a read-out that must stay linear, or convolutions that train without one."""

    def __call__(self, x: Float[Array, '... d']) -> Float[Array, '... d']:
        return x


class LayerNorm(Norm):
    """Ba et al. 2016, eq. 4: zero mean, unit variance, learned scale and bias."""

    @nn.compact
    def __call__(self, x: Float[Array, '... d']) -> Float[Array, '... d']:
        scale = _vector(self, 'scale', nn.initializers.ones, x.shape[-1])
        bias = _vector(self, 'bias', nn.initializers.zeros, x.shape[-1])
        y = x.astype(jnp.float32)
        y = y - y.mean(axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.epsilon)
        return y.astype(x.dtype) * scale.astype(x.dtype) + bias.astype(x.dtype)


class RMSNorm(Norm):
    """Zhang & Sennrich 2019, eq. 4: unit root mean square, learned scale, no bias."""

    @nn.compact
    def __call__(self, x: Float[Array, '... d']) -> Float[Array, '... d']:
        scale = _vector(self, 'scale', nn.initializers.ones, x.shape[-1])
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.epsilon)
        return y.astype(x.dtype) * scale.astype(x.dtype)


class OnePlusRMSNorm(Norm):
    """RMSNorm whose scale is 1 + s, with s from 0: Gemma (Gemma Team 2024). The product too is taken in float32."""

    @nn.compact
    def __call__(self, x: Float[Array, '... d']) -> Float[Array, '... d']:
        excess = _vector(self, 'excess', nn.initializers.zeros, x.shape[-1])
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + self.epsilon)
        return (y * (1 + excess.astype(jnp.float32))).astype(x.dtype)
