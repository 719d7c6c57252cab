"""Who may read whom: the only place that makes masks of `Tokens`."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mmjax.types import Tokens


def attention_mask(query: Tokens, key: Tokens) -> Bool[Array, 'b n m']:
    """Which query may read which key: see `Tokens`."""
    real = query.mask[:, :, None] & key.mask[:, None, :]
    same = query.segments[:, :, None] == key.segments[:, None, :]
    before = jnp.cumsum(key.causal, axis=1)[:, None, :] <= jnp.cumsum(query.causal, axis=1)[:, :, None]
    return real & same & before


def reads(query: Tokens, key: Tokens) -> Bool[Array, 'b n']:
    """Which queries may read any key. A token may read itself, so among the same tokens it is the real ones."""
    return query.mask if query is key else attention_mask(query, key).any(axis=-1)


def ranked(query: Tokens, key: Tokens) -> tuple[Int[Array, 'b m'], Int[Array, 'b n']]:
    """The mask as one number a token, for kernels to which [n, m] is too much: an order of the keys by (segment,
    cumsum(causal)), those that are padding last; and for each query how many keys of that order it has not passed. A
    query reads a key if and only if their segments agree and the key's place in the order is below that number.

        segments 1 1 1 2 2 2, causal 0 1 1 0 1 1   ->   keys at places 0 1 2 3 4 5, queries read below 1 2 3 4 5 6

    Returns:
        a number for each key to be sorted by; and one for each query, which those of the keys that it may read do not
        exceed.
    """
    stride = 2 * (query.mask.shape[1] + key.mask.shape[1]) + 1  # above any difference of counts

    def number(tokens: Tokens) -> Int[Array, 'b n']:
        return tokens.segments * stride + jnp.cumsum(tokens.causal, axis=1)

    last = jnp.iinfo(jnp.int32).max
    return jnp.where(key.mask, number(key), last), jnp.where(query.mask, number(query), -last)
