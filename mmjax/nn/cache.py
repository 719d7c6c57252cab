"""What attention keeps of the tokens that it has read, so that one more token costs the work of one.

Two collections, both of which are cut by layers in a scan (`repeat`):

    cache   keys, values, and who may read them, of all tokens so far; after them room for more
    fresh   the same of the tokens that a call adds

A call of a model with `mutable=['cache']` and none yet fills it. A call with one adds its tokens to a copy of it, reads
that, and leaves in `fresh` what it added, so that the caller writes a token and not the whole cache (`written`).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.types import Tokens

# name: which axis, from the end, the tokens lie on; the batch is the one before it. `length`: how many there are.
AXES = {'keys': -3, 'values': -3, 'mask': -1, 'segments': -1, 'causal': -1}

Cache = Mapping[str, Any]


def remembered(
    module: nn.Module, key: Tokens, k: Float[Array, 'b m g k'], v: Float[Array, 'b m g k']
) -> tuple[Tokens, Float[Array, 'b l g k'], Float[Array, 'b l g k']]:
    """The tokens that queries of `module` read, their keys and values: those of its cache and then these.

    Of cached tokens the values are not there, which no mask needs. Without a cache, and none to fill, nothing changes.
    """
    said = {'mask': key.mask, 'segments': key.segments, 'causal': key.causal}
    if module.has_variable('cache', 'keys'):
        past = {name: module.get_variable('cache', name) for name in (*AXES, 'length')}
        if key.mask.shape[1]:  # their count goes on from that of the whole cache, as it does in `join`
            said['causal'] = key.causal.at[:, 0].add(-past['causal'].sum(axis=1))
        fresh = {'keys': k, 'values': v, **said}
        for name, x in fresh.items():
            module.put_variable('fresh', name, x)
        all_of = {name: _put(past[name], x, past['length'], AXES[name]) for name, x in fresh.items()}
        nothing = jnp.zeros((*all_of['mask'].shape, 0), v.dtype)
        tokens = Tokens.of(nothing, all_of['mask']).replace(segments=all_of['segments'], causal=all_of['causal'])
        return tokens, all_of['keys'], all_of['values']
    if module.is_mutable_collection('cache') and not module.is_initializing():
        length = jnp.full((), key.mask.shape[1], jnp.int32)
        for name, x in {'keys': k, 'values': v, **said, 'length': length}.items():
            module.put_variable('cache', name, x)
    return key, k, v


def with_room(cache: Cache, fresh: Cache, tokens: int) -> Cache:
    """The part of a cache that a call which gave the shapes `fresh` reads, with room for so many more tokens."""
    if 'keys' not in fresh:
        return {name: with_room(cache[name], part, tokens) for name, part in fresh.items()}
    if not fresh['mask'].shape[-1]:
        return cache  # of this one all is read and nothing is added
    return {**cache, **{name: _padded(cache[name], tokens, axis) for name, axis in AXES.items()}}


def written(cache: Cache, fresh: Cache) -> Cache:
    """The cache after a call that left `fresh`."""
    if 'keys' not in fresh:
        return {name: written(cache[name], part) for name, part in fresh.items()}
    added = fresh['mask'].shape[-1]
    if not added:
        return cache
    start = cache['length'].max()  # the same in all layers
    parts = {name: _put(cache[name], fresh[name], start, axis) for name, axis in AXES.items()}
    return {**parts, 'length': cache['length'] + added}


def rows(cache: Cache, at: Int[Array, 'r']) -> Cache:
    """Of each array the rows `at` of the batch."""
    if 'keys' not in cache:
        return {name: rows(part, at) for name, part in cache.items()}
    return {**cache, **{name: jnp.take(cache[name], at, axis=axis - 1) for name, axis in AXES.items()}}


def growing(cache: Cache, fresh: Cache, change: Any) -> Cache:
    """`change(part)` in place of each part of the cache to which `fresh` adds."""
    if 'keys' not in fresh:
        return {name: growing(cache[name], part, change) for name, part in fresh.items()}
    return change(cache) if fresh['mask'].shape[-1] else cache


def _put(past: Array, x: Array, start: Array, axis: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(past, x.astype(past.dtype), start, axis=past.ndim + axis)


def _padded(x: Array, more: int, axis: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, more)
    return jnp.pad(x, widths)
