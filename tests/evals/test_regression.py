"""Errors of numbers against the formulas of statistics."""

import numpy as np
import pytest
import scipy.stats

from mmjax.errors import UserError
from mmjax.evals.regression import RegressionError


def scored(guess, target, **batch):
    evaluator = RegressionError()
    return evaluator.metrics(evaluator.predictions({'value': guess}, {'value': target, **batch}), {})


def test_against_a_least_squares_fit():
    """Of a fitted line, R^2 is the squared correlation."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    target = 3 + 2 * x + rng.standard_normal(200)
    fit = scipy.stats.linregress(x, target)
    guess = (fit.intercept + fit.slope * x)[:, None]
    found = scored(guess, target)
    assert found['r2'] == pytest.approx(fit.rvalue**2, rel=1e-5)
    assert found['rmse'] == pytest.approx(np.sqrt(np.mean((guess[:, 0] - target) ** 2)), rel=1e-5)
    assert found['rmse_of_mean'] == pytest.approx(target.std(), rel=1e-5)
    constant = scored(np.full((200, 1), target.mean()), target)
    assert constant['r2'] == pytest.approx(0, abs=1e-6) and constant['mae'] == pytest.approx(constant['mae_of_mean'])


def test_only_examples_that_have_the_target_count():
    present = np.array([True, True, False])
    found = scored(np.array([[1.0], [2.0], [99.0]]), np.array([2.0, 2.0, 0.0]), **{'value/present': present})
    assert found['mae'] == 0.5 and found['r2'] == 0 and found['mae_of_mean'] == 0
    nobody = scored(np.ones((1, 1)), np.ones(1), **{'value/present': np.array([False])})
    assert np.isnan(list(nobody.values())).all()
    with pytest.raises(UserError, match='did you mean'):
        RegressionError(target='valu').predictions({'value': np.ones((1, 1))}, {'value': np.ones(1)})
