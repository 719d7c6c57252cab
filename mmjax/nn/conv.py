"""Convolution with named axes."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from mmjax.nn.parameter import parameter


class Conv2d(nn.Module):
    """2-D convolution, 'SAME' padding, NHWC. He-normal kernels (He et al. 2015), zero biases."""

    features: int
    kernel: int = 3
    stride: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, 'b y x c']) -> Float[Array, 'b y2 x2 c2']:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        axes = ('kernel', 'kernel', 'channels', 'channels')
        kernel = parameter(self, 'kernel', shape, axes, nn.initializers.he_normal())
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype), kernel, (self.stride,) * 2, 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        if self.bias:
            y = y + parameter(self, 'bias', (self.features,), ('channels',), nn.initializers.zeros)
        return y
