"""A matrix with named axes. Every learned projection of the package is one."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.errors import UserError, nearest
from mmjax.nn.parameter import parameter

ACTIVATIONS = {
    'gelu': jax.nn.gelu,  # tanh approximation (Hendrycks & Gimpel 2016, section 2)
    'gelu_exact': lambda x: jax.nn.gelu(x, approximate=False),
    'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),  # the sigmoid approximation of the same section; CLIP
    'relu': jax.nn.relu,
    'silu': jax.nn.silu,
    'tanh': jnp.tanh,
}


def activation(name: str):
    """Looks an activation up by its exact name; raises UserError with the nearest one."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation: unknown '{name}'{nearest(name, ACTIVATIONS)} (there are {sorted(ACTIVATIONS)})")
    return ACTIVATIONS[name]


class Dense(nn.Module):
    """y = x W + b over the last axis (or axes).

    shape: sizes of the output axes; axes: logical names, first of the input axis (or axes), then of the output ones;
    None: not cut. W ~ N(0, 1 / fan_in), truncated; b = 0. The result has the dtype of W: the compute dtype is that of
    the parameters which the train step passes in.
    """

    shape: Sequence[int]
    axes: Sequence[str | None]
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, '...']) -> Float[Array, '...']:
        inputs = len(self.axes) - len(self.shape)
        kernel, bias = _weights(self, x.shape[x.ndim - inputs :])
        contracted = (tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs)))
        y = jax.lax.dot_general(x.astype(kernel.dtype), kernel, (contracted, ((), ())))
        return y if bias is None else y + bias


class Weights(nn.Module):
    """W and b of a `Dense` of this name, for who multiplies by himself; a wrapper such as `Lora` does not see it."""

    shape: Sequence[int]
    axes: Sequence[str | None]
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, '...']) -> tuple[Float[Array, '...'], Float[Array, '...'] | None]:
        return _weights(self, x.shape[x.ndim - len(self.axes) + len(self.shape) :])


def _weights(dense: Dense | Weights, sizes: Sequence[int]) -> tuple[Float[Array, '...'], Float[Array, '...'] | None]:
    """Of inputs whose axes have these sizes. Called inside the compact method."""
    axes = tuple(range(len(dense.axes)))
    init = nn.initializers.variance_scaling(
        1.0, 'fan_in', 'truncated_normal', in_axis=axes[: len(sizes)], out_axis=axes[len(sizes) :]
    )
    kernel = parameter(dense, 'kernel', (*sizes, *dense.shape), dense.axes, init)
    if not dense.bias:
        return kernel, None
    return kernel, parameter(dense, 'bias', dense.shape, dense.axes[len(sizes) :], nn.initializers.zeros)
