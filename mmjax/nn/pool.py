"""One vector from the tokens of a row; zeros where it has none. A decoder holds one as a template."""

from collections.abc import Callable
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Float

from mmjax.nn.attention import Attention
from mmjax.nn.dense import Dense
from mmjax.nn.mlp import FeedForward, Mlp
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.parameter import parameter
from mmjax.types import Tokens, masked_mean


def read_by(
    queries: Float[Array, 'm d'], tokens: Tokens, attention: Callable[[Tokens, Tokens], Float[Array, 'b m d']]
) -> Float[Array, 'b m d']:
    """What queries read from all real tokens of a row; zeros where it has none.

    They are the same for each row and stand beside it: its segments and its causality end here.
    """
    b, m = tokens.mask.shape[0], queries.shape[0]
    values = repeat(queries.astype(tokens.values.dtype), 'm d -> b m d', b=b)
    return attention(Tokens.of(values, jnp.ones((b, m), bool)), Tokens.of(tokens.values, tokens.mask))


class Pool(nn.Module):
    """Base of the pools."""

    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        raise NotImplementedError


class MeanPool(Pool):
    """The mean of the real tokens."""

    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        return masked_mean(tokens)


class FirstPool(Pool):
    """The first token, where it is real: a class token."""

    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        return jnp.where(tokens.mask[:, :1], tokens.values[:, 0], 0)


class LastPool(Pool):
    """The last real token: of a causal tower, the one that has read all. CLIP's end of text (Radford et al. 2021)."""

    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        places = jnp.arange(tokens.mask.shape[1])
        last = jnp.where(tokens.mask, places, 0).max(axis=1)
        values = jnp.take_along_axis(tokens.values, last[:, None, None], axis=1)[:, 0]
        return jnp.where(tokens.present[:, None], values, 0)


class FlatPool(Pool):
    """All tokens side by side, zeros for those that are not real: what stands where is kept. For one number of them."""

    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        return rearrange(jnp.where(tokens.mask[..., None], tokens.values, 0), 'b n d -> b (n d)')


class TanhPool(FirstPool):
    """tanh(W x + b) of the first token: BERT's pooler (Devlin et al. 2019)."""

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        x = super().__call__(tokens)
        y = jnp.tanh(Dense((x.shape[-1],), ('channels', 'embed'), name='dense')(x))
        return jnp.where(tokens.mask[:, :1], y, 0)


class ProbePool(Pool):
    """What a learned query reads from all real tokens, then x + mlp(norm(x)): the head of SigLIP's image tower.

    Multi-head attention pooling (Lee et al. 2019, eq. 11, one seed; Zhai et al. 2022, section 3.2).
    """

    attention: Attention = field(default_factory=Attention)
    mlp: FeedForward = field(default_factory=Mlp)
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, tokens: Tokens) -> Float[Array, 'b d']:
        probe = parameter(self, 'probe', tokens.values.shape[-1:], ('embed',))
        x = read_by(probe[None], tokens, self.attention.copy(name='attend'))
        y = x + self.mlp.copy(name='feed_forward')(self.norm.copy(name='norm_mlp')(x))
        return jnp.where(tokens.present[:, None], y[:, 0], 0)
