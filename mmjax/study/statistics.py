"""Arms of an ablation from the predictions of every (arm, seed): means and differences with intervals, equivalence.

An arm is scored by an array [seeds, examples], such as 1.0 where the prediction is right. Seeds and examples are both
samples: another seed gives another model, other images give another test set, and examples on one image are no
independent evidence. So both are resampled, apart from one another, examples by cluster: a bootstrap of crossed factors
(Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1).

Of seeds there are few, and resampling n of them understates their spread twice: by (n-1)/n in the variance, and by
normal quantiles where Student's belong. If seeds are what varies, a 95 % percentile interval holds the truth with
probability P(|t_(n-1)| < 1.96 sqrt((n-1)/n)): 90 % with 10 seeds, 85 % with 5, 75 % with 3. So every draw's deviation
between seeds is multiplied by sqrt(n / chi²), chi² drawn with n-1 degrees of freedom. The mean of n resampled values
deviates about like a normal of variance (n-1)/n · s²/n; multiplied so, like Student's t with n-1 degrees of freedom in
units of s/sqrt(n), at every level at once, so that p and interval agree. (Hesterberg 2015, "What teachers should know
about the bootstrap", The American Statistician 69, widens percentiles to the same end, for one level.)

What 95 % intervals then cover, with 60 images of 1 to 9 examples, by `coverage` of `tests/study/test_statistics.py`
with REPETITIONS = 4000 (binomial error 0.003), for standard deviations of the difference between seeds, between images,
and of a seed on an example:

    seeds   between seeds   between images   of a seed on an example   covered
       10            0.1              0                         0         0.946
        5            0.1              0                         0         0.951
        3            0.1              0                         0         0.948
       10            0.05             0.2                       0.1       0.950
       10            0.05             0.1                       0.3       0.970
       10            0.1              0.1      right or wrong, 0.7       0.972
       10            0                0                         0.3       0.999

The last rows are the price of crossing: noise of a seed on an example counts up to three times in the variance (it is
weighted by a product of two independent counts, and E[w² c²] - 1 = 3), so intervals are too wide, by sqrt(3) at most,
where that noise outweighs seeds and images. Clusters are not widened: if images are what varies and there are fewer
than about 30, the interval is too narrow, as it would be with so few seeds.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy.stats
from einops import rearrange

from mmjax.errors import UserError

DRAWS = 10_000  # resamples, unless told otherwise
LEAST_P = 2 / (DRAWS + 1)  # that so many can tell
CELLS = 4_000_000  # draws x clusters that are counted at a time; 24 bytes each


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and examples, and its interval, in the units of the scores; level is 0.95 for 95 %.

    The interval is not clipped to the range of the scores: an accuracy of 0.99 may have one that reaches beyond 1.
    """

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference(Mean):
    """Mean difference a - b with its interval; p_value is two-sided against no difference, at least 2 / (draws + 1).

    inner: the interval of 2 level - 1, 0.9 for 0.95, beyond each end of which lies 1 - level.
    """

    p_value: float
    inner: tuple[float, float]


def interval(mean: Mean) -> dict[str, float]:
    """A mean or a difference, as JSON."""
    return {'estimate': mean.estimate, 'low': mean.low, 'high': mean.high}


def arm_mean(
    correct: np.ndarray, *, clusters: np.ndarray, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Mean:
    """The mean score of one arm, with the bootstrap interval that the head of this file describes.

    Args:
        correct: bool or float [seeds, examples], the score of every example.
        clusters: int [examples]; examples that share an image share the number.
        level: what the interval is to cover, in (0, 1).
        draws: resamples.
        seed: of the resampling; the same seed, the same result.

    Raises:
        UserError: shapes do not match, there are fewer than 2 seeds or 2 clusters, a score is not finite, or the level
            or number of draws is out of range.
    """
    values = _scores(correct, clusters)
    return Mean(**_interval(values, _draws(values, clusters, draws=draws, seed=seed), level))


def arm_difference(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    *,
    clusters: np.ndarray,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """The mean score of arm a less that of arm b: hierarchical paired bootstrap, one draw for both arms.

    p = 2 min((1 + #(d <= 0)) / (draws + 1), (1 + #(d >= 0)) / (draws + 1)), at most 1 (Davison & Hinkley 1997,
    "Bootstrap methods and their application", §4.4.1, for the added ones).

    Args:
        correct_a, correct_b: bool or float [seeds, examples]; row i of both is one seed, column j one example.
        clusters, level, draws, seed: as in `arm_mean`.

    Raises:
        UserError: as `arm_mean`, or the two arms differ in shape.
    """
    if np.shape(correct_a) != np.shape(correct_b):
        raise UserError(
            f'arms are paired by seed and example, but one is [seeds, examples] = {list(np.shape(correct_a))} and '
            f'the other {list(np.shape(correct_b))}'
        )
    values = _scores(correct_a, clusters) - _scores(correct_b, clusters)
    drawn = _draws(values, clusters, draws=draws, seed=seed)
    rarer = int(min((drawn <= 0).sum(), (drawn >= 0).sum()))
    found = _interval(values, drawn, level)
    low, high = np.quantile(drawn, sorted((1 - level, level)))
    return Difference(**found, p_value=min(1.0, 2 * (1 + rarer) / (draws + 1)), inner=(float(low), float(high)))


def half_width(by_seed: np.ndarray, *, level: float = 0.95) -> float:
    """Half of Student's interval of the mean of one number a seed, such as a difference from another arm's same seed.

    It takes the test set as given: for metrics of which the ledger has no example's result. by_seed: float [seeds].

    Raises:
        UserError: fewer than 2 seeds.
    """
    if len(by_seed) < 2:
        raise UserError(f'{len(by_seed)} seed(s): the spread between seeds needs at least 2')
    values = np.asarray(by_seed, np.float64)
    return float(scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def equivalent(difference: Difference, *, delta: float) -> bool:
    """Whether two arms differ by less than ±delta: two one-sided tests, each at alpha = 1 - level, which is to say by
    the interval of 1 - 2 alpha.

    Schuirmann 1987, "A comparison of the two one-sided tests procedure …", Journal of Pharmacokinetics and
    Biopharmaceutics 15. False means "not shown", and a large p of `arm_difference` shows no equivalence either.

    Args:
        difference: of `arm_difference`; its level, 0.95 say, is that of the tests.
        delta: the largest difference that does not matter, fixed before the runs, in the units of the scores.

    Raises:
        UserError: delta is not positive.
    """
    if not delta > 0:
        raise UserError(f'delta = {delta}: equivalence needs a margin above 0')
    low, high = difference.inner
    return -delta < low and high < delta


def _scores(correct: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    values, clusters = np.asarray(correct, np.float64), np.asarray(clusters)
    if values.ndim != 2 or clusters.ndim != 1 or values.shape[1] != len(clusters):
        raise UserError(
            f'scores are [seeds, examples] and clusters [examples], but their shapes are {list(values.shape)} and '
            f'{list(clusters.shape)}'
        )
    if not np.issubdtype(clusters.dtype, np.integer):
        raise UserError(f'clusters are numbers of images, but their dtype is {clusters.dtype}')
    if len(values) < 2:
        raise UserError(f'{len(values)} seed(s): the spread between seeds needs at least 2')
    found = len(np.unique(clusters))
    if found < 2:
        raise UserError(f'{found} cluster(s) among {len(clusters)} examples: resampling them needs at least 2')
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong:
        raise UserError(f'{wrong} of {values.size} scores are not finite')
    return values


def _draws(values: np.ndarray, clusters: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """Bootstrap means [draws] of values [seeds, examples]: sums over drawn clusters by number of drawn examples."""
    if draws < 1:
        raise UserError(f'draws = {draws}: at least 1')
    # Resampling whole clusters never looks inside one: its sums and its size are enough.
    _, members = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(members).astype(np.float64)
    sums = np.stack([np.bincount(members, weights=row) for row in values], axis=1)  # [clusters, seeds]
    n_clusters, n_seeds = sums.shape

    widened, counts = _resamples(n_clusters, n_seeds, draws, seed)
    weights = 1 / n_seeds + widened
    means = np.empty(draws)
    chunk = max(1, CELLS // n_clusters)
    for start in range(0, draws, chunk):
        rows = slice(start, start + chunk)
        picked = counts[rows].astype(np.float64)  # integers have no fast matrix product
        means[rows] = (picked @ sums * weights[rows]).sum(axis=1) / (picked @ sizes)
    return means


@functools.lru_cache(maxsize=2)
def _resamples(n_clusters: int, n_seeds: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What all arms of a study share: each draw's deviation of the seeds' weights from equal ones, widened, [draws,
    seeds], and how often it picks each cluster, [draws, clusters].
    """
    rng = np.random.default_rng(seed)
    seed_shares = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws) / n_seeds
    widening = np.sqrt(n_seeds / rng.chisquare(n_seeds - 1, size=draws))
    counts = np.empty((draws, n_clusters), np.uint8)  # of picks, whose mean is 1: 256 of one cluster do not come up
    chunk = max(1, CELLS // n_clusters)
    for start in range(0, draws, chunk):
        # One count of all draws' picks, each draw with numbers of its own: three times as fast as rng.multinomial.
        picks = rng.integers(n_clusters, size=(min(chunk, draws - start), n_clusters))
        picks += n_clusters * np.arange(len(picks))[:, None]
        found = np.bincount(picks.ravel(), minlength=picks.size)
        counts[start : start + len(picks)] = rearrange(found, '(d c) -> d c', c=n_clusters)
    return widening[:, None] * (seed_shares - 1 / n_seeds), counts


def _interval(values: np.ndarray, drawn: np.ndarray, level: float) -> dict[str, float]:
    if not 0 < level < 1:
        raise UserError(f'level = {level} is not between 0 and 1 (0.95 is 95 %)')
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return {'estimate': float(values.mean()), 'low': float(low), 'high': float(high), 'level': level}
