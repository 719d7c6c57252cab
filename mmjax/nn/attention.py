"""Attention between tokens: the only place that builds masks, and one seam over the kernel that computes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mmjax.errors import UserError
from mmjax.nn.dense import Dense
from mmjax.nn.positions import rotate
from mmjax.sharding import constrain
from mmjax.types import Tokens


def attention_mask(query: Tokens, key: Tokens) -> Bool[Array, 'b n m']:
    """Which query may read which key: see `Tokens`."""
    real = query.mask[:, :, None] & key.mask[:, None, :]
    same = query.segments[:, :, None] == key.segments[:, None, :]
    before = jnp.cumsum(key.causal, axis=1)[:, None, :] <= jnp.cumsum(query.causal, axis=1)[:, :, None]
    return real & same & before


def attend(
    q: Float[Array, 'b n h k'], k: Float[Array, 'b m h k'], v: Float[Array, 'b m h k'], mask: Bool[Array, 'b n m']
) -> Float[Array, 'b n h k']:
    """softmax(q k^T / sqrt(width)) v over the keys that the mask allows; zeros where it allows none.

    The library's function alone returns the uniform average there.
    """
    y = jax.nn.dot_product_attention(q, k, v, mask=rearrange(mask, 'b n m -> b 1 n m'))
    return y * rearrange(mask.any(axis=-1), 'b n -> b n 1 1').astype(y.dtype)


class Attention(nn.Module):
    """Multi-head attention of queries to keys (Vaswani et al. 2017, section 3.2.2); of the same tokens, self-attention.

    rotary: turn queries and keys by the tokens' positions. normalize: RMS-normalise them per head, without a learned
    scale (after Henry et al. 2020), which keeps large models stable. A query that may read no key gets zeros.
    """

    heads: int = 4
    bias: bool = True
    rotary: bool = False
    normalize: bool = False

    @nn.compact
    def __call__(self, query: Tokens, key: Tokens) -> Float[Array, 'b n d']:
        width = query.values.shape[-1]
        if width % self.heads:
            raise UserError(f'attention: width {width} does not divide by {self.heads} heads')
        shape, axes = (self.heads, width // self.heads), ('embed', 'heads', 'head_dim')
        q = Dense(shape, axes, self.bias, name='query')(query.values)
        k = Dense(shape, axes, self.bias, name='key')(key.values)
        v = Dense(shape, axes, self.bias, name='value')(key.values)
        if self.normalize:
            q, k = _unit_rms(q), _unit_rms(k)
        if self.rotary:
            q, k = rotate(q, query.positions), rotate(k, key.positions)
        q, k, v = (constrain(x, 'batch', 'length', 'heads', 'head_dim') for x in (q, k, v))
        mask = attention_mask(query, key)
        y = Dense((width,), ('heads', 'head_dim', 'embed'), self.bias, name='out')(attend(q, k, v, mask))
        # The bias too: to a query whose keys are all absent, attention is as if it were not there.
        return jnp.where(mask.any(axis=-1)[:, :, None], y, 0)


def _unit_rms(x: Float[Array, 'b n h k']) -> Float[Array, 'b n h k']:
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)
