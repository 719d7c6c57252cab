"""Digests of arrays: re-derived in NumPy, the same on every mesh, and what each flipped bit does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.sharding import MeshShape
from mmjax.train.digests import digests, kinds

RNG = np.random.default_rng(0)


def by_hand(x):
    """With Python's integers, word by word."""
    size = {'bool': 1, 'int8': 1, 'bfloat16': 2, 'float16': 2}.get(str(x.dtype), 4)
    words = np.frombuffer(x.tobytes(), f'<u{size}').tolist()

    def mixed(h):
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    places = [mixed(i) for i in range(len(words))]
    first = sum(word * (place | 1) for word, place in zip(words, places, strict=True)) % 2**32
    second = sum(mixed(word ^ place) for word, place in zip(words, places, strict=True)) % 2**32
    return f'{first:08x}{second:08x}'


ARRAYS = {
    'float32': RNG.normal(size=(3, 4, 5)).astype(np.float32),
    'bfloat16': np.asarray(jnp.asarray(RNG.normal(size=(7, 2)), jnp.bfloat16)),
    'int32': RNG.integers(-9, 9, size=(11,), dtype=np.int32),
    'int8': RNG.integers(-9, 9, size=(4, 3), dtype=np.int8),
    'bool': RNG.integers(0, 2, size=(6,)).astype(bool),
    'scalar': np.float32(7.5),
    'none': np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize('name', ARRAYS)
def test_against_a_sum_by_hand(name):
    x = ARRAYS[name]
    assert digests({'x': x})['x'].split() == [kinds({'x': x})['x'], by_hand(np.asarray(x))]


def test_the_same_on_every_mesh():
    x = {'w': RNG.normal(size=(8, 16)).astype(np.float32)}
    mesh = MeshShape(data=2, fsdp=4).build()
    told = {
        str(spec): digests(jax.device_put(x, NamedSharding(mesh, spec)))['w']
        for spec in (PartitionSpec(), PartitionSpec('data'), PartitionSpec('fsdp', 'data'), PartitionSpec(None, 'fsdp'))
    }
    assert len(set(told.values())) == 1 and digests(x)['w'] in told.values()


def test_every_flipped_bit_and_every_exchange_is_seen():
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    before, seen = digests({'x': x})['x'], set()
    for word in range(x.size):
        for bit in range(32):
            flipped = x.copy()
            flipped.reshape(-1).view(np.uint32)[word] ^= np.uint32(1 << bit)
            seen.add(digests({'x': flipped})['x'])
    assert before not in seen and len(seen) == 32 * x.size
    top = x.copy()
    top.reshape(-1).view(np.uint32)[[0, 1]] ^= np.uint32(1 << 31)  # what cancels in a sum with odd factors
    exchanged = x[:, [1, 0, 2]]
    assert before not in (digests({'x': top})['x'], digests({'x': exchanged})['x'])
    assert digests({'x': x.T.copy()})['x'].startswith('float32[3,5] ')


def test_what_is_no_array_is_left_out():
    assert digests({'a': {'b': np.float32(1)}, 'ema': None}).keys() == {'a/b'}
