"""Digests of arrays, computed where the arrays are: the same bits on every mesh, so that what was saved on one can be
held against what is restored on another, and a number that changed on its way is found.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import serialization
from jaxtyping import Array, UInt32

from mmjax.paths import flat

Leaves = dict[str, str]
"""By its path what a leaf is: 'float32[3,4] 0123456789abcdef'."""


def digests(tree: Any) -> Leaves:
    """Type, shape and digest of every array of a tree. All processes of a group come here, and get the same."""
    leaves = _leaves(tree)
    told = jax.device_get(_digests(leaves))
    return {path: f'{kind(x)} {told[path][0]:08x}{told[path][1]:08x}' for path, x in leaves.items()}


def kinds(tree: Any) -> Leaves:
    """As `digests`, without the digest: of abstract arrays too."""
    return {path: kind(x) for path, x in _leaves(tree).items()}


def kind(x: Any) -> str:
    """'float32[3,4]'."""
    return f'{jnp.dtype(x.dtype)}[{",".join(map(str, x.shape))}]'


def _leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a tree, which may hold None and what stands for parameters that do not train."""
    leaves = flat(serialization.to_state_dict(tree))
    return {path: x for path, x in leaves.items() if hasattr(x, 'dtype')}


@jax.jit
def _digests(leaves: dict[str, Array]) -> dict[str, UInt32[Array, '2']]:
    return {path: _digest(x) for path, x in leaves.items()}


def _digest(x: Array) -> UInt32[Array, '2']:
    """Two sums over the words of an array, modulo 2**32, so in any order. In the first each word has an odd factor made
    of its place: one flipped bit always changes it. The second mixes word and place, against what cancels in the first.
    """
    words = bits_of(x)
    place = jnp.zeros((), jnp.uint32)
    for axis, size in enumerate(words.shape):  # not flattened: that would collect what is cut over devices
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place = _mixed(place)
    return jnp.stack([jnp.sum(words * (place | 1)), jnp.sum(_mixed(words ^ place))])


def bits_of(x: Array) -> UInt32[Array, '...']:
    """Those of each number, as a word."""
    if x.dtype == jnp.bool:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mixed(x: UInt32[Array, '...']) -> UInt32[Array, '...']:
    """MurmurHash3's finalizer: a bijection of 32-bit words (github.com/aappleby/smhasher, MurmurHash3.cpp, fmix32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
