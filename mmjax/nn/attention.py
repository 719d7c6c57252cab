"""Attention between tokens, and one seam over the programs that compute it."""

from collections.abc import Sequence
from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from mmjax.errors import UserError
from mmjax.nn import kernels
from mmjax.nn.cache import remembered
from mmjax.nn.dense import Dense
from mmjax.nn.masks import attention_mask, reads
from mmjax.nn.positions import Halves, Rotation
from mmjax.sharding import constrain
from mmjax.types import Tokens


def attend(
    q: Float[Array, 'b n h k'],
    k: Float[Array, 'b m g k'],
    v: Float[Array, 'b m g k'],
    query: Tokens,
    key: Tokens,
    *,
    tap: nn.Module | None = None,
) -> Float[Array, 'b n h k']:
    """softmax(q k^T / sqrt(width)) v over the keys that a query may read; zeros where that is none.

    With fewer heads of keys than of queries, g < h, each is read by h / g heads in a row. The program that computes it
    is chosen by the devices and the shapes (`nn/kernels.py`). tap: the module that calls. Where its collection
    `intermediates` is mutable, it keeps the probabilities [b h n m], to which its `perturbations` are added.
    """
    kernel = kernels.chosen(q, k)
    tapped = tap if tap is not None and tap.is_mutable_collection('intermediates') else None
    if tapped is not None or kernel is not kernels.splash:  # which gathers them itself
        k, v = (constrain(x, 'batch', 'keys', 'heads' if x.shape[2] > 1 else None, 'head_dim') for x in (k, v))
    if tapped is not None:
        return _attend_in_the_open(q, k, v, attention_mask(query, key), tapped)
    y = kernel(q, k, v, query, key)
    # A kernel alone gives there the uniform average, or anything finite.
    y = jnp.where(reads(query, key)[:, :, None, None], y, 0)
    y = constrain(y, 'batch', 'length', 'heads', 'head_dim')
    return y if kernel is kernels.splash else checkpoint_name(y, 'attended')  # which names its own


def _attend_in_the_open(
    q: Float[Array, 'b n h k'],
    k: Float[Array, 'b m g k'],
    v: Float[Array, 'b m g k'],
    mask: Bool[Array, 'b n m'],
    tap: nn.Module,
) -> Float[Array, 'b n h k']:
    k, v = (repeat(x, 'b m g k -> b m (g r) k', r=q.shape[2] // x.shape[2]) for x in (k, v))
    scores = jnp.einsum('bnhk,bmhk->bhnm', q, k, preferred_element_type=jnp.float32) / q.shape[-1] ** 0.5
    allowed = rearrange(mask, 'b n m -> b 1 n m')
    scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    p = (jax.nn.softmax(scores, axis=-1) * allowed).astype(v.dtype)
    tap.put_variable('intermediates', 'probabilities', p)
    if tap.has_variable('perturbations', 'probabilities'):
        p = p + tap.get_variable('perturbations', 'probabilities')
    return jnp.einsum('bhnm,bmhk->bnhk', p, v)


class Attention(nn.Module):
    """Multi-head attention of queries to keys (Vaswani et al. 2017, section 3.2.2); of the same tokens, self-attention.

    rotary: turn queries and keys by the tokens' positions. normalize: RMS-normalise them per head, without a learned
    scale (after Henry et al. 2020), which keeps large models stable. A query that may read no key gets zeros. Beside
    the keys of a call it reads those of its cache, where it has one (`nn/cache.py`).
    """

    heads: int = 4
    bias: bool = True
    rotary: bool = False
    normalize: bool = False

    @nn.compact
    def __call__(self, query: Tokens, key: Tokens) -> Float[Array, 'b n d']:
        if not query.mask.shape[1]:  # a stream that nothing is added to (see `remembered`)
            return query.values
        (q,) = project(self, query, ('query',))
        key, k, v = remembered(self, key, *project(self, key, ('key', 'value')))
        return merge(self, attend(q, k, v, query, key, tap=self), reads(query, key), width=query.values.shape[-1])

    def heads_of(self, kind: str, width: int) -> tuple[int, int]:
        """How many heads the queries, keys or values of tokens of `width` numbers have, and the width of each.

        Raises:
            UserError: where the width does not divide by the heads.
        """
        if width % self.heads:
            raise UserError(f'attention: width {width} does not divide by {self.heads} heads')
        return self.heads, width // self.heads

    def turn(self, x: Float[Array, 'b n h k'], positions: Int[Array, 'b n']) -> Float[Array, 'b n h k']:
        """Queries or keys, turned by where they stand."""
        return Halves()(x, positions) if self.rotary else x


class GroupedAttention(Attention):
    """Attention whose keys and values have fewer heads than its queries (Ainslie et al. 2023, figure 2).

    key_heads: of keys and of values; each serves heads / key_heads heads of queries. 1: multi-query (Shazeer 2019).
    head_dim: width of a head, where it is not that of the tokens / heads, as in Gemma. rotation: how `rotary` turns.

    Raises:
        UserError: where the heads do not divide by the key heads, or a size is below 1.
    """

    key_heads: int = 1
    head_dim: int | None = None
    rotation: Rotation = field(default_factory=Halves)

    def heads_of(self, kind: str, width: int) -> tuple[int, int]:
        if self.key_heads < 1 or self.heads % self.key_heads:
            raise UserError(f'attention.key_heads: {self.heads} heads do not divide by {self.key_heads} of keys')
        if self.head_dim is not None and self.head_dim < 1:
            raise UserError(f'attention.head_dim: {self.head_dim} is below 1')
        head_dim = super().heads_of(kind, width)[1] if self.head_dim is None else self.head_dim
        return self.heads if kind == 'query' else self.key_heads, head_dim

    def turn(self, x: Float[Array, 'b n h k'], positions: Int[Array, 'b n']) -> Float[Array, 'b n h k']:
        return self.rotation(x, positions) if self.rotary else x


def project(template: Attention, x: Tokens, kinds: Sequence[str], *, prefix: str = '') -> list[Float[Array, 'b n h k']]:
    """Queries, keys or values of tokens, as the template says; inside the compact method that owns the weights.

    kinds: of 'query', 'key', 'value'. prefix: of the names of the weights.
    """
    projected = []
    for kind in kinds:
        shape = template.heads_of(kind, x.values.shape[-1])
        # One head of keys that all queries read is on every device, however many the heads of queries are spread over.
        heads = 'heads' if kind == 'query' or shape[0] > 1 else None
        y = Dense(shape, ('embed', heads, 'head_dim'), template.bias, name=f'{prefix}{kind}')(x.values)
        if template.normalize and kind != 'value':
            y = _unit_rms(y)
        if kind != 'value':
            y = template.turn(y, x.positions)
        projected.append(checkpoint_name(constrain(y, 'batch', 'length', heads, 'head_dim'), kind))
    return projected


def merge(
    template: Attention, y: Float[Array, 'b n h k'], reads: Bool[Array, 'b n'], *, width: int, prefix: str = ''
) -> Float[Array, 'b n d']:
    """The heads' results as one vector of `width` a query; zeros for a query that reads no key."""
    y = Dense((width,), ('heads', 'head_dim', 'embed'), template.bias, name=f'{prefix}out')(y)
    # The bias too: to a query whose keys are all absent, attention is as if it were not there.
    return jnp.where(reads[:, :, None], y, 0)


def _unit_rms(x: Float[Array, 'b n h k']) -> Float[Array, 'b n h k']:
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)
