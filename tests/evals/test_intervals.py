"""Intervals of shares: against SciPy where examples are independent, and what they cover where they are not."""

import numpy as np
import pytest
from scipy.stats import binomtest

from mmjax.evals.intervals import share_interval


@pytest.mark.parametrize(('hits', 'n'), [(0, 12), (1, 169), (17, 40), (169, 169)])
def test_independent_examples(hits, n):
    low, high = share_interval(np.arange(n) < hits, np.arange(n))
    expected = binomtest(hits, n).proportion_ci(method='wilson')
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize('alike', [0.0, 0.7, 1.0])
@pytest.mark.parametrize(('share', 'least'), [(0.05, 0.9), (0.1, 0.93), (0.5, 0.93)])
def test_it_covers_the_share_whatever_examples_of_a_cluster_have_in_common(alike, share, least):
    """60 clusters of 1 to 6; with probability `alike` an example does as its cluster does."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(2000):
        clusters = np.repeat(np.arange(60), rng.integers(1, 7, 60))
        own, common = rng.random(len(clusters)) < share, rng.random(60) < share
        hits = np.where(rng.random(len(clusters)) < alike, common[clusters], own)
        low, high = share_interval(hits, clusters)
        covered.append(low <= share <= high)
    assert least < np.mean(covered) < 0.97


def test_examples_that_are_copies_count_once():
    hits, n = np.arange(30) < 11, np.arange(30)
    assert share_interval(np.repeat(hits, 5), np.repeat(n, 5)) == pytest.approx(share_interval(hits, n))
    low, high = share_interval(np.repeat(hits, 5), np.arange(150))
    assert high - low < 0.6 * np.diff(share_interval(hits, n))[0]
    assert share_interval(np.zeros(0, bool), np.zeros(0, int)) == (0.0, 1.0)
