"""Convolution with named axes."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class Conv2d(nn.Module):
    """2-D convolution, 'SAME' padding, NHWC. He-normal kernels (He et al. 2015), zero biases."""

    features: int
    kernel: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, 'b y x c']) -> Float[Array, 'b y2 x2 c2']:
        init = nn.with_logical_partitioning(nn.initializers.he_normal(), ('kernel', 'kernel', 'channels', 'channels'))
        kernel = self.param('kernel', init, (self.kernel, self.kernel, x.shape[-1], self.features))
        zeros = nn.with_logical_partitioning(nn.initializers.zeros, ('channels',))
        bias = self.param('bias', zeros, (self.features,))
        y = jax.lax.conv_general_dilated(
            x.astype(kernel.dtype), kernel, (self.stride,) * 2, 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        return y + bias
