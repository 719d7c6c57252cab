"""Pools against picking by hand; the arithmetic of BERT's pooler and SigLIP's head is in test_foreign.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.nn.attention import Attention
from mmjax.nn.pool import FirstPool, FlatPool, LastPool, MeanPool, ProbePool, TanhPool
from mmjax.types import Tokens

MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
VALUES = np.random.default_rng(0).standard_normal((3, 4, 8)).astype(np.float32)
TOKENS = Tokens.of(jnp.asarray(VALUES), jnp.asarray(MASK))
POOLS = [MeanPool(), FirstPool(), LastPool(), TanhPool(), FlatPool(), ProbePool(attention=Attention(heads=2))]


def test_they_pick_what_they_say():
    np.testing.assert_array_equal(FirstPool().apply({}, TOKENS), VALUES[:, 0] * [[1], [0], [0]])
    np.testing.assert_array_equal(LastPool().apply({}, TOKENS), np.stack([VALUES[0, 3], VALUES[1, 2], np.zeros(8)]))
    means = np.stack([VALUES[0].mean(0), VALUES[1, 1:3].mean(0), np.zeros(8)])
    np.testing.assert_allclose(MeanPool().apply({}, TOKENS), means, atol=1e-6)
    np.testing.assert_array_equal(FlatPool().apply({}, TOKENS), (VALUES * MASK[..., None]).reshape(3, 32))


@pytest.mark.parametrize('pool', POOLS, ids=lambda pool: type(pool).__name__)
def test_padding_changes_nothing_and_an_empty_row_gives_zeros(random_parameters, pool):
    params = random_parameters(pool, TOKENS)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(values):
        y = pool.apply(params, TOKENS.replace(values=values))
        return (y**2).sum(), y

    gradient, found = run(TOKENS.values)
    _, noisy = run(jnp.where(MASK[:, :, None], TOKENS.values, 7.0))
    np.testing.assert_array_equal(noisy, found)
    np.testing.assert_array_equal(found[2], 0)
    assert found[0].any() and gradient[0].any()
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[~MASK].any()


def test_a_probe_reads_across_segments_and_causality(random_parameters):
    pool = POOLS[-1]
    params = random_parameters(pool, TOKENS)
    parted = TOKENS.replace(segments=TOKENS.positions, causal=jnp.ones_like(TOKENS.causal))
    run = jax.jit(pool.apply)
    np.testing.assert_array_equal(run(params, parted), run(params, TOKENS))
