"""Distances to numbers against their formulas, and the evaluator's floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.regression import Regressor
from mmjax.errors import UserError
from mmjax.nn.norm import NoNorm
from mmjax.objectives.regression import AbsoluteError, Huber, SquaredError
from mmjax.types import Fused, Tokens

GUESS = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 3.0]])
TARGET = np.array([[1.5, -2.0], [0.5, 0.0], [9.0, 9.0]])


@pytest.mark.parametrize(
    ('objective', 'expected'),
    [
        (SquaredError(), [0.25 / 2, 16 / 2]),
        (AbsoluteError(), [0.5 / 2, 4 / 2]),
        (Huber(delta=2.0), [0.125 / 2, (2 * 4 - 2) / 2]),
    ],
)
def test_against_the_formula(objective, expected):
    batch = {'value': jnp.asarray(TARGET), 'value/present': jnp.array([1, 1, 0], bool), 'weight': jnp.ones(3)}
    np.testing.assert_allclose(objective({'value': jnp.asarray(GUESS)}, batch)[:2], expected, rtol=1e-6)
    np.testing.assert_array_equal(objective.weights(batch), [1, 1, 0])
    single = {'value': jnp.asarray(TARGET[:, 1]), 'weight': jnp.ones(3)}
    np.testing.assert_allclose(
        objective({'value': jnp.asarray(GUESS[:, 1:])}, single)[1], 2 * expected[1], rtol=1e-6
    )  # the other number of that row is right


def test_a_regressor_is_linear_in_the_mean_of_real_tokens(random_parameters):
    values = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], bool)
    fused = Fused({'a': Tokens.of(jnp.asarray(values), jnp.asarray(mask))})
    decoder = Regressor(width=2, norm=NoNorm())
    params = random_parameters(decoder, {}, fused, train=False)
    mean = np.stack([values[0, :2].mean(0), values[1].mean(0)])
    layer = params['params']['numbers']
    found = decoder.apply(params, {}, fused, train=False)
    np.testing.assert_allclose(found, mean @ layer['kernel'] + layer['bias'], rtol=1e-5)


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"output 'value' is \[3, 2\], target 'value' \[3\]"):
        SquaredError()({'value': jnp.asarray(GUESS)}, {'value': jnp.ones(3)})
    with pytest.raises(UserError, match="no field of the batch 'value'; did you mean 'values'"):
        SquaredError()({'value': jnp.asarray(GUESS)}, {'values': jnp.ones(3)})
    with pytest.raises(UserError, match='delta: 0'):
        Huber(delta=0.0)
    assert jax.grad(lambda x: Huber()({'value': x}, {'value': jnp.zeros(1)}).sum())(jnp.array([[50.0]])) == 1
