"""Holm by hand and by its definition; sign flips against SciPy's permutation test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mmjax.errors import UserError
from mmjax.study.multiplicity import holm, seeds_needed, sign_flip_p, smallest_p

families = arrays(float, st.integers(1, 12), elements=st.floats(0, 1))


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; the last may not fall below the one before.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, 0.001, 0.4])), [0.8, 0.003, 0.8])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert holm(np.array([])).shape == (0,)


@given(families)
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p):
    adjusted = holm(p)
    assert np.all(adjusted >= p) and np.all(adjusted <= np.minimum(1, len(p) * p))
    assert np.all(np.diff(adjusted[np.argsort(p, kind='stable')]) >= 0)
    assert adjusted[p.argmin()] == min(1, len(p) * p.min())


@given(families, st.floats(0.001, 0.999))
def test_holm_rejects_what_stepping_down_rejects(p, alpha):
    rejected = np.zeros(len(p), bool)
    for k, index in enumerate(np.argsort(p, kind='stable')):
        if (len(p) - k) * p[index] > alpha:
            break
        rejected[index] = True
    np.testing.assert_array_equal(holm(p) <= alpha, rejected)


@given(arrays(float, st.integers(2, 9), elements=st.floats(-1, 1).map(lambda x: round(x, 3))))
def test_sign_flips_are_scipys(differences):
    expected = stats.permutation_test((differences,), np.mean, permutation_type='samples', n_resamples=2**9)
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_sign_flips_by_hand():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip_p(np.array([1.0, 2.0, -3.0])) == 1
    # 0.1 + 0.2 - 0.3 is not 0 in floating point, and the patterns that sum to 0 on paper must all tie.
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1
    assert sign_flip_p(np.zeros(4)) == 1
    assert sign_flip_p(np.ones(16)) == smallest_p(16)


def test_smallest_p_is_reached():
    for seeds, p in {5: 0.0625, 6: 0.03125, 8: 0.0078125, 9: 0.00390625, 10: 0.001953125}.items():
        assert smallest_p(seeds) == p == sign_flip_p(np.arange(1.0, seeds + 1))
    assert smallest_p(1) == 1


def test_seeds_needed():
    assert seeds_needed(10) == 9  # the example of Holm over 10 comparisons: .0039 <= .005
    assert seeds_needed(1) == 6
    assert seeds_needed(1, alpha=0.0625) == 5  # met exactly


@given(st.integers(1, 500), st.floats(1e-4, 0.5))
def test_seeds_needed_are_enough_and_no_fewer(comparisons, alpha):
    seeds = seeds_needed(comparisons, alpha=alpha)
    assert seeds >= 2
    clearest = np.ones(comparisons)
    clearest[0] = smallest_p(seeds)
    assert holm(clearest)[0] <= alpha * (1 + 1e-12)
    clearest[0] = smallest_p(seeds - 1)
    assert holm(clearest)[0] > alpha * (1 - 1e-12)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: holm(np.array([0.1, 1.2])), r'\[0\.1, 1\.2\]'),
        (lambda: holm(np.array([0.1, np.nan])), 'nan'),
        (lambda: holm(np.ones((2, 2))), r'\[2, 2\]'),
        (lambda: sign_flip_p(np.ones(1)), r'at least 2 seeds.*\[1\]'),
        (lambda: sign_flip_p(np.array([1, np.inf])), '1 of 2 differences'),
        (lambda: smallest_p(0), '0 seeds'),
        (lambda: seeds_needed(0), '0 comparisons'),
        (lambda: seeds_needed(1, alpha=0.0), r'alpha = 0\.0'),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_too_many_seeds_to_enumerate():
    with pytest.raises(ValueError, match='17 seeds'):
        sign_flip_p(np.ones(17))
