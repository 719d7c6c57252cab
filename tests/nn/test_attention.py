"""Attention against a derivation in NumPy, loop by loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.nn.attention import Attention, GroupedAttention, attend
from mmjax.nn.masks import attention_mask
from mmjax.sharding import MeshShape
from mmjax.types import Tokens


def tokens(batch=2, length=5, width=8, *, mask=None, segments=None, causal=None, seed=0):
    values = np.random.default_rng(seed).standard_normal((batch, length, width))
    x = Tokens.of(
        jnp.asarray(values, jnp.float32), jnp.ones((batch, length), bool) if mask is None else jnp.asarray(mask, bool)
    )
    given = {'segments': segments, 'causal': causal}
    return x.replace(
        **{name: jnp.broadcast_to(jnp.asarray(v, jnp.int32), x.mask.shape) for name, v in given.items() if v}
    )


def numpy_attention(params, query, key, allowed, *, heads):
    """Every head of every query, one after the other, over the keys that it may read."""
    p = {name: (np.asarray(x['kernel'], np.float64), np.asarray(x['bias'], np.float64)) for name, x in params.items()}
    width = query.shape[-1]
    result = np.zeros(query.shape)
    for b, n in np.ndindex(query.shape[:2]):
        keys = np.flatnonzero(allowed[b, n])
        if not len(keys):
            continue
        for h in range(heads):
            q = query[b, n] @ p['query'][0][:, h] + p['query'][1][h]
            k = key[b, keys] @ p['key'][0][:, h] + p['key'][1][h]
            v = key[b, keys] @ p['value'][0][:, h] + p['value'][1][h]
            weights = np.exp(k @ q / np.sqrt(width // heads))
            result[b, n] += (weights / weights.sum()) @ v @ p['out'][0][h]
        result[b, n] += p['out'][1]
    return result


def test_mask_of_a_prefix_lm():
    x = tokens(1, 6, causal=[0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        attention_mask(x, x)[0],
        [
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1, 1],
        ],
    )


@given(st.data())
def test_mask_says_what_tokens_promise(data):
    def draw(length):
        flags, ids = st.lists(st.booleans(), min_size=length, max_size=length), st.integers(0, 2)
        return tokens(
            1,
            length,
            mask=[data.draw(flags)],
            causal=data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length)),
            segments=data.draw(st.lists(ids, min_size=length, max_size=length)),
        )

    query, key = draw(4), draw(3)
    found = attention_mask(query, key)
    for n, m in np.ndindex(4, 3):
        allowed = bool(query.mask[0, n]) and bool(key.mask[0, m]) and query.segments[0, n] == key.segments[0, m]
        allowed = allowed and sum(key.causal[0, : m + 1].tolist()) <= sum(query.causal[0, : n + 1].tolist())
        assert bool(found[0, n, m]) == bool(allowed)


@pytest.mark.short
def test_attention_is_that_of_numpy(random_parameters):
    query = tokens(mask=[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], segments=[0, 0, 1, 1, 1], causal=[0, 0, 1, 1, 1])
    key = tokens(length=4, segments=[0, 1, 1, 2], causal=[0, 1, 1, 0], seed=1)
    module = Attention(heads=2)
    params = random_parameters(module, query, key)
    found = jax.jit(module.apply)(params, query, key)
    expected = numpy_attention(
        params['params'],
        np.asarray(query.values, np.float64),
        np.asarray(key.values, np.float64),
        np.asarray(attention_mask(query, key)),
        heads=2,
    )
    assert (~np.asarray(attention_mask(query, key)).any(-1)).any()  # some query has nothing to read
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_key_gives_zeros_and_no_gradient(random_parameters):
    query, key = tokens(), tokens(seed=1, mask=np.zeros((2, 5), bool))
    module = Attention(heads=2)
    params = random_parameters(module, query, key)

    def total(params, values):
        return (module.apply(params, query, key.replace(values=values)) ** 2 + 1).sum()

    assert not module.apply(params, query, key).any()
    assert not any(x.any() for x in jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1)))(params, key.values)))


def test_attend_over_no_key_is_not_the_average_of_padding():
    q, k, v = (jnp.asarray(np.random.default_rng(i).standard_normal((1, 2, 1, 4)), jnp.float32) for i in range(3))
    query = tokens(1, 2, mask=[[False, True]])
    y = attend(q, k, v, query, query)
    np.testing.assert_array_equal(y[0, 0], np.zeros((1, 4)))
    np.testing.assert_allclose(y[0, 1], v[0, 1], rtol=1e-6)


def test_rotary_attention_depends_on_differences_of_positions_only(random_parameters):
    x, module = tokens(width=16), Attention(heads=2, rotary=True)
    params = random_parameters(module, x, x)
    shifted = x.replace(positions=x.positions + 7)
    apply = jax.jit(module.apply)
    np.testing.assert_allclose(apply(params, shifted, shifted), apply(params, x, x), atol=2e-5)
    assert np.abs(apply(params, shifted, x) - apply(params, x, x)).max() > 1e-2


def test_normalised_queries_and_keys_ignore_scale(random_parameters):
    x, module = tokens(), Attention(heads=2, bias=False, normalize=True)
    params = random_parameters(module, x, x)
    larger = jax.tree.map(lambda leaf: leaf, params)
    larger['params']['query']['kernel'] = 50 * params['params']['query']['kernel']
    np.testing.assert_allclose(module.apply(larger, x, x), module.apply(params, x, x), atol=1e-5)


def test_width_that_does_not_divide_by_heads():
    with pytest.raises(UserError, match='width 8 does not divide by 3 heads'):
        Attention(heads=3).init(jax.random.key(0), tokens(), tokens())


def test_grouped_queries_read_the_head_of_their_group(random_parameters):
    """Each head of keys written out for the queries that share it, in the order of transformers."""
    x, module = tokens(mask=[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]), GroupedAttention(heads=4, key_heads=2, rotary=True)
    params = random_parameters(module, x, x)
    assert params['params']['key']['kernel'].shape == (8, 2, 2)
    spread = jax.tree.map(lambda leaf: leaf, params)
    for kind in ('key', 'value'):
        spread['params'][kind] = {
            'kernel': jnp.repeat(params['params'][kind]['kernel'], 2, axis=1),
            'bias': jnp.repeat(params['params'][kind]['bias'], 2, axis=0),
        }

    @jax.jit
    def run(params, spread):
        observed, _ = module.apply(params, x, x, mutable=['intermediates'])
        return module.apply(params, x, x), observed, Attention(heads=4, rotary=True).apply(spread, x, x)

    found, observed, expected = run(params, spread)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(observed, expected, atol=1e-5)


def test_width_of_a_head_need_not_be_that_of_the_tokens_by_heads(random_parameters):
    x, module = tokens(), GroupedAttention(heads=3, key_heads=1, head_dim=10)
    params = random_parameters(module, x, x)
    shapes = {name: leaf['kernel'].shape for name, leaf in params['params'].items()}
    assert shapes == {'query': (8, 3, 10), 'key': (8, 1, 10), 'value': (8, 1, 10), 'out': (3, 10, 8)}
    assert jax.eval_shape(module.apply, params, x, x).shape == (2, 5, 8)


def test_one_head_of_keys_is_whole_on_every_device(random_parameters):
    module, x = GroupedAttention(heads=4), tokens(batch=8)
    params, boxed = random_parameters(module, x, x), jax.eval_shape(lambda: module.init(jax.random.key(0), x, x))
    assert boxed['params']['key']['kernel'].names == ('embed', None, 'head_dim')
    expected = jax.jit(module.apply)(params, x, x)
    with jax.set_mesh(MeshShape(data=2, tensor=4).build()):
        np.testing.assert_allclose(jax.jit(module.apply)(params, x, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ('wrong', 'message'), [({'key_heads': 3}, 'divide by 3 of keys'), ({'head_dim': 0}, 'below 1')]
)
def test_wrong_groups_are_told(wrong, message):
    with pytest.raises(UserError, match=message):
        GroupedAttention(heads=4, **wrong).init(jax.random.key(0), tokens(), tokens())
