"""Who may read whom: the only place that makes masks of `Tokens`."""

import functools

import jax
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


def numbered(query: Tokens, key: Tokens) -> tuple[Int[Array, 'b n'], Int[Array, 'b m']]:
    """The mask as one number a token, for programs to which [n, m] is too much: by segment, then by cumsum(causal). A
    query reads a key if and only if both are real, their segments agree and the key's number does not exceed its own.
    """
    stride = 2 * (query.mask.shape[1] + key.mask.shape[1]) + 1  # above any difference of counts
    of_queries, of_keys = (x.segments * stride + jnp.cumsum(x.causal, axis=1) for x in (query, key))
    return of_queries, of_keys


def passed(query: Tokens, key: Tokens) -> Int[Array, 'b n']:
    """How many keys have a number that does not exceed the query's, where they stand in the order of their numbers.

    causal 0 0 1 0 1   ->   2 2 4 4 5
    """
    of_queries, of_keys = numbered(query, key)
    if query is not key:
        return jax.vmap(functools.partial(jnp.searchsorted, side='right'))(of_keys, of_queries).astype(jnp.int32)
    m = key.mask.shape[1]
    ends = jnp.where(jnp.diff(of_keys, axis=1, append=of_keys[:, -1:] + 1) > 0, jnp.arange(1, m + 1), m)
    return jax.lax.cummin(
        ends, axis=1, reverse=True
    )  # those of its own number are as many as there are up to their end
