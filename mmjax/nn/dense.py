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
        fan_axes = tuple(range(inputs))
        init = nn.initializers.variance_scaling(
            1.0, 'fan_in', 'truncated_normal', in_axis=fan_axes, out_axis=tuple(range(inputs, len(self.axes)))
        )
        kernel = parameter(self, 'kernel', (*x.shape[x.ndim - inputs :], *self.shape), self.axes, init)
        contracted = (tuple(range(x.ndim - inputs, x.ndim)), fan_axes)
        y = jax.lax.dot_general(x.astype(kernel.dtype), kernel, (contracted, ((), ())))
        if self.bias:
            y = y + parameter(self, 'bias', self.shape, self.axes[inputs:], nn.initializers.zeros)
        return y
