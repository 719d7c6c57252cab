"""Tokens that travel with their mask."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.types import Fused, Tokens, concatenate, masked_mean, split


def tokens(lengths, *, width=3, size=None, seed=0):
    """One row a length."""
    size = size or max(lengths)
    values = np.random.default_rng(seed).standard_normal((len(lengths), size, width))
    return Tokens.of(jnp.asarray(values, jnp.float32), jnp.asarray(np.arange(size) < np.array(lengths)[:, None]))


def test_of_counts_positions_and_is_bidirectional():
    x = tokens([3, 1])
    np.testing.assert_array_equal(x.positions, [[0, 1, 2], [0, 1, 2]])
    assert not x.segments.any() and not x.causal.any()


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(Exception, match='mask'):
        Tokens.of(jnp.zeros((2, 3, 4)), jnp.ones((2, 5), bool))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_split_undoes_concatenate(sizes):
    parts = {f'm{i}': tokens([size, size - 1], size=size, seed=i) for i, size in enumerate(sizes)}
    whole = concatenate(parts)
    assert whole.mask.shape == (2, sum(sizes))
    for name, part in split(whole, like=parts).items():
        np.testing.assert_array_equal(part.values, parts[name].values)
        np.testing.assert_array_equal(part.mask, parts[name].mask)


def test_masked_mean_and_presence():
    x = tokens([3, 1, 0])
    expected = [np.asarray(x.values[0]).mean(axis=0), x.values[1, 0], np.zeros(3)]
    np.testing.assert_allclose(masked_mean(x), expected, rtol=1e-6)
    np.testing.assert_array_equal(x.present, [True, True, False])


def test_decoders_read_shared_tokens_where_there_are_some():
    a, b = tokens([2]), tokens([1])
    assert Fused({'a': a}).readable() == {'a': a}
    assert Fused({'a': a}, shared=b).readable() == {'shared': b}


def test_tokens_of_different_widths_are_not_joined():
    with pytest.raises(UserError, match='different widths'):
        concatenate({'a': tokens([1]), 'b': Tokens.of(jnp.zeros((1, 2, 5)), jnp.ones((1, 2), bool))})
