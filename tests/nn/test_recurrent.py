"""Recurrent networks against their recursion in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.nn.recurrent import Recurrent

LENGTHS = np.array([4, 2, 0])
MASK = jnp.asarray(np.arange(4) < LENGTHS[:, None])
X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 5)), jnp.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gates(p, name, x, h):
    """i* reads the input, h* the state; either may have a bias."""
    return [p[side + name]['kernel'].T @ v + p[side + name].get('bias', 0) for side, v in (('i', x), ('h', h))]


def lstm(p, xs):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000."""
    h = c = np.zeros(p['hi']['kernel'].shape[0])
    for x in xs:
        i, f, o = (sigmoid(sum(gates(p, name, x, h))) for name in 'ifo')
        c = f * c + i * np.tanh(sum(gates(p, 'g', x, h)))
        h = o * np.tanh(c)
        yield h


def gru(p, xs):
    """Cho et al. 2014, with the reset gate on the projected state (Chung et al. 2014, footnote)."""
    h = np.zeros(p['hn']['kernel'].shape[0])
    for x in xs:
        r, z = (sigmoid(sum(gates(p, name, x, h))) for name in 'rz')
        from_x, from_h = gates(p, 'n', x, h)
        h = (1 - z) * np.tanh(from_x + r * from_h) + z * h
        yield h


@pytest.mark.parametrize(('cell', 'recursion'), [('lstm', lstm), ('gru', gru)])
@pytest.mark.parametrize('bidirectional', [False, True])
def test_states_are_those_of_the_recursion(random_parameters, cell, recursion, bidirectional):
    module = Recurrent(6, cell, bidirectional)
    params = random_parameters(module, X, MASK)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params['params'])
    found = jax.jit(module.apply)(params, X, MASK)
    assert found.shape == (3, 4, 6) and np.isfinite(found).all()
    for b, length in enumerate(LENGTHS):
        xs = np.asarray(X[b, :length], np.float64)
        expected = list(recursion(p['forward'], xs))
        if bidirectional:
            back = list(recursion(p['backward'], xs[::-1]))[::-1]
            expected = [np.concatenate(pair) for pair in zip(expected, back, strict=True)]
        np.testing.assert_allclose(found[b, :length], np.reshape(expected, (length, 6)), atol=1e-5)


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
def test_padding_changes_nothing(random_parameters, cell):
    module = Recurrent(6, cell, bidirectional=True)
    params = random_parameters(module, X, MASK)
    noisy = jnp.where(MASK[:, :, None], X, 9.0)
    apply = jax.jit(module.apply)
    np.testing.assert_array_equal(apply(params, noisy, MASK)[MASK], apply(params, X, MASK)[MASK])


@pytest.mark.parametrize('cell', ['lstm', 'gru'])
@pytest.mark.parametrize('bidirectional', [False, True])
def test_the_result_has_the_dtype_of_the_input(random_parameters, cell, bidirectional):
    module, x = Recurrent(6, cell, bidirectional), X.astype(jnp.bfloat16)
    params = random_parameters(module, x, MASK, dtype='bfloat16')
    assert jax.eval_shape(module.apply, params, x, MASK).dtype == jnp.bfloat16


def test_unknown_cell():
    with pytest.raises(UserError, match="unknown 'ltsm'; did you mean 'lstm'"):
        Recurrent(6, 'ltsm').init(jax.random.key(0), X, MASK)


def test_odd_width_of_two_directions():
    with pytest.raises(UserError, match='7 is odd'):
        Recurrent(7, bidirectional=True).init(jax.random.key(0), X, MASK)
