"""Best of n by enumerating all draws; areas by hand and by integrals that are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.study.curves import curve_area, expected_best, relative_area


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.integers(1, 5))
def test_best_of_n_is_the_mean_over_all_draws(scores, trials):
    trials = min(trials, len(scores))
    expected = np.mean([max(drawn) for drawn in itertools.product(scores, repeat=trials)])
    assert expected_best(np.array(scores), trials=trials) == pytest.approx(expected, abs=1e-9)


def test_best_of_many_trials_against_drawing_them():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=50)
    best = rng.choice(scores, size=(20_000, 20)).max(axis=1)
    assert expected_best(scores, trials=20) == pytest.approx(best.mean(), abs=3.5 * best.std() / np.sqrt(len(best)))
    assert expected_best(scores, trials=1) == pytest.approx(scores.mean())


def test_area_by_hand():
    # Trapezoids 0.5 x (0.9 + 0.7) / 2 and 1.5 x (0.7 + 0.1) / 2 are 0.4 and 0.6, over a range of 2.
    scores, levels = np.array([0.9, 0.7, 0.1]), np.array([0.0, 0.5, 2.0])
    assert curve_area(scores, levels=levels) == pytest.approx(0.5)
    assert relative_area(scores, levels=levels) == pytest.approx(0.5 / 0.9)
    assert curve_area(scores, levels=levels + 3) == pytest.approx(0.5)


@given(st.floats(0.01, 1), st.integers(2, 20), st.floats(0.1, 10))
def test_an_arm_that_loses_nothing(score, count, width):
    levels = np.linspace(0, width, count)
    assert curve_area(np.full(count, score), levels=levels) == pytest.approx(score)
    assert relative_area(np.full(count, score), levels=levels) == pytest.approx(1)


def test_area_of_a_fine_curve_is_its_integral():
    levels = np.linspace(0, 3, 2001)
    assert curve_area(np.exp(-levels), levels=levels) == pytest.approx((1 - np.exp(-3)) / 3, rel=1e-6)


LEVELS = np.array([0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: expected_best(np.ones(3), trials=4), 'best of 4 trials, but 3'),
        (lambda: expected_best(np.ones(3), trials=0), 'best of 0 trials'),
        (lambda: expected_best(np.array([1, np.nan]), trials=1), '1 of 2 are not finite'),
        (lambda: expected_best(np.array([]), trials=1), r'\[0\]'),
        (lambda: curve_area(np.ones(2), levels=LEVELS), '2 scores at 3 levels'),
        (lambda: curve_area(np.ones(1), levels=np.zeros(1)), '1 level'),
        (lambda: curve_area(np.ones(3), levels=LEVELS[::-1]), r'\[1\.0, 0\.5, 0\.0\]'),
        (lambda: relative_area(np.ones(3), levels=LEVELS + 0.1), 'first level is 0.1'),
        (lambda: relative_area(np.zeros(3), levels=LEVELS), 'level 0 is 0'),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
