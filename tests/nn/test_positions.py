"""Where a token stands."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.nn.positions import Halves, Interleaved, Learned, NoPositions, SinCos, rotate, sincos_table


@pytest.mark.parametrize('grid', [(5,), (2, 3), (2, 2, 2)])
def test_sincos_is_the_formula(grid):
    width, found = 24, sincos_table(grid, width=24)
    part = width // (2 * len(grid))
    for row, place in enumerate(np.ndindex(grid)):  # raster order
        for axis, coordinate in enumerate(place):
            for i in range(part):
                angle = coordinate / 10_000 ** (i / part)
                assert math.isclose(found[row, 2 * axis * part + i], math.sin(angle), abs_tol=1e-12)
                assert math.isclose(found[row, (2 * axis + 1) * part + i], math.cos(angle), abs_tol=1e-12)


def test_sincos_of_a_width_that_does_not_divide():
    with pytest.raises(UserError, match='width 6 does not divide by 4'):
        sincos_table((2, 2), width=6)


def test_heads_of_odd_width_cannot_turn():
    with pytest.raises(UserError, match='a head of 5 is odd'):
        rotate(jnp.ones((1, 2, 1, 5)), jnp.zeros((1, 2), int))


def test_positions_are_added(random_parameters):
    x = jnp.ones((2, 6, 8))
    params = random_parameters(Learned(), x, (6,))
    np.testing.assert_array_equal(Learned().apply(params, x, (6,)), x + params['params']['embedding'])
    np.testing.assert_allclose(SinCos().apply({}, x, (2, 3)), x + sincos_table((2, 3), width=8)[None], atol=1e-6)
    np.testing.assert_array_equal(NoPositions().apply({}, x, (6,)), x)


def test_a_packed_row_may_be_longer_than_the_table_but_no_sequence_in_it(random_parameters):
    x = jnp.zeros((1, 5, 4))
    params = random_parameters(Learned(length=3), x[:, :3], (3,))
    with pytest.raises(UserError, match='3 learned positions, but 5 places'):
        Learned(length=3).apply(params, x, (5,))
    found = Learned(length=3).apply(params, x, (5,), jnp.asarray([[0, 1, 0, 2, 3]]))
    table = np.asarray(params['params']['embedding'])
    np.testing.assert_array_equal(found[0], [*table[[0, 1, 0, 2]], [np.nan] * 4])


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_scores_of_rotated_vectors_depend_on_the_difference_only(query, key, shift):
    q, k = (jnp.asarray(np.random.default_rng(i).standard_normal((1, 1, 1, 8)), jnp.float32) for i in range(2))

    def score(at_q, at_k):
        return float((rotate(q, jnp.asarray([[at_q]])) * rotate(k, jnp.asarray([[at_k]]))).sum())

    assert score(query, key) == pytest.approx(score(query + shift, key + shift), abs=2e-3)


def test_rotation_is_that_of_complex_numbers():
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 6))
    positions = np.array([[0, 1, 5, 9]])
    z = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * positions[..., None, None] * 10_000.0 ** (-np.arange(3) / 3))
    found = jax.jit(rotate)(jnp.asarray(x, jnp.float32), jnp.asarray(positions))
    np.testing.assert_allclose(found, np.concatenate([z.real, z.imag], axis=-1), atol=1e-5)


@pytest.mark.parametrize('form', [Halves, Interleaved])
def test_forms_differ_in_which_numbers_are_a_pair(form):
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 6))
    positions = np.array([[0, 1, 5, 9]])
    real, imaginary = (x[..., :3], x[..., 3:]) if form is Halves else (x[..., ::2], x[..., 1::2])
    z = (real + 1j * imaginary) * np.exp(1j * positions[..., None, None] * 500.0 ** (-np.arange(3) / 3))
    expected = np.concatenate([z.real, z.imag], -1) if form is Halves else np.stack([z.real, z.imag], -1)
    found = form(base=500.0)(jnp.asarray(x, jnp.float32), jnp.asarray(positions))
    np.testing.assert_allclose(found, expected.reshape(x.shape), atol=1e-5)
    with pytest.raises(UserError, match='head of 5 is odd'):
        form()(jnp.zeros((1, 4, 2, 5)), jnp.asarray(positions))
