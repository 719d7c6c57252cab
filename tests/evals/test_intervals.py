"""Intervals of shares and of areas: against SciPy or a formula where examples are independent, and what they cover."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from mmjax.evals.intervals import auc_interval, share_interval


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


@pytest.mark.parametrize('alike', [0.0, 1.0])
@pytest.mark.parametrize('apart', [0.0, 0.5, 1.5])
def test_it_covers_the_area_of_two_normals(apart, alike):
    """Of which one lies `apart` from the other, the area is Phi(apart / sqrt 2). 60 clusters of 1 to 6, each with
    examples of both classes that move together.
    """
    rng, covered, area = np.random.default_rng(0), [], norm.cdf(apart / 2**0.5)
    for _ in range(1000):
        clusters = np.repeat(np.arange(60), rng.integers(1, 7, 60))
        positive = rng.random(len(clusters)) < 0.5
        noise = np.where(alike, rng.standard_normal(60)[clusters], rng.standard_normal(len(clusters)))
        low, high = auc_interval(noise + apart * positive, positive, clusters)
        covered.append(low <= area <= high)
    assert 0.92 < np.mean(covered) < 0.98


def test_the_width_is_that_of_delong():
    """By the variances of the placements, class by class, from the pairs themselves."""
    rng = np.random.default_rng(0)
    positive, scores = np.arange(200) < 80, rng.integers(0, 9, 200) + 2.0 * (np.arange(200) < 80)
    a, b = scores[positive][:, None], scores[~positive][None]
    right = (a > b) + 0.5 * (a == b)
    variance = right.mean(axis=1).var(ddof=1) / 80 + right.mean(axis=0).var(ddof=1) / 120
    low, high = auc_interval(scores, positive, np.arange(200))
    area, odds = right.mean(), np.log(np.array([low, high]) / (1 - np.array([low, high])))
    assert odds.mean() == pytest.approx(np.log(area / (1 - area)))
    assert np.diff(odds)[0] == pytest.approx(2 * 1.96 * np.sqrt(variance) / (area * (1 - area)), rel=0.01)


@pytest.mark.parametrize('scores', [np.arange(6.0), np.full(6, np.nan)])
def test_an_area_of_one_or_of_none_tells_no_width(scores):
    assert auc_interval(scores, np.arange(6) > 2, np.arange(6)) == (0.0, 1.0)
    assert auc_interval(scores, np.ones(6, bool), np.arange(6)) == (0.0, 1.0)
