"""What is wrapped around positions."""

import jax.numpy as jnp
import numpy as np

from mmjax.nn.entry import Classed, Normed, Scaled
from mmjax.nn.positions import NoPositions, SinCos, sincos_table

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 16)), jnp.float32)
GRID = (2, 3)


def test_scaled_before_positions_are_added():
    expected = 4 * np.asarray(X) + sincos_table(GRID, width=16)
    np.testing.assert_allclose(Scaled(SinCos()).apply({}, X, GRID), expected, atol=1e-5)


def test_a_class_token_stands_first_and_the_grid_keeps_its_positions(random_parameters):
    params = random_parameters(Classed(SinCos()), X, GRID)
    found = np.asarray(Classed(SinCos()).apply(params, X, GRID))
    np.testing.assert_array_equal(found[:, 0], np.tile(params['params']['class_token'], (2, 1)))
    np.testing.assert_allclose(found[:, 1:], np.asarray(X) + sincos_table(GRID, width=16), atol=1e-6)


def test_normed_is_around_everything(random_parameters):
    module = Normed(Classed(NoPositions()))
    params = random_parameters(module, X, GRID)
    norm = params['params']['norm_embedded']
    rows = (np.asarray(module.apply(params, X, GRID)) - norm['bias']) / norm['scale']
    assert rows.shape == (2, 7, 16)
    np.testing.assert_allclose(rows.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(-1), 1, atol=1e-3)
