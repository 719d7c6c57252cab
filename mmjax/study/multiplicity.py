"""How many comparisons the seeds can carry: Holm's adjustment, the exact sign-flip test, the least p of it."""

import numpy as np

from mmjax.errors import UserError

MOST_SEEDS = 16  # 2^16 sign patterns are enumerated in milliseconds; beyond, sample them (scipy.stats.permutation_test)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values of a family of comparisons: reject where they are <= alpha, and any false rejection among all
    has probability <= alpha.

    With p_(1) <= … <= p_(m): adjusted p_(k) = max_{j<=k} min(1, (m-j+1) p_(j)) (Holm 1979, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6; no assumption on dependence).

    Args:
        p_values: float [comparisons], in any order.

    Returns:
        float [comparisons], in the order of the input.

    Raises:
        UserError: not a list of numbers in [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1:
        raise UserError(f'p-values are [comparisons], but their shape is {list(p.shape)}')
    if not np.all((p >= 0) & (p <= 1)):  # NaN too
        raise UserError(f'p-values lie in [0, 1], but these are {p.tolist()}')
    order = np.argsort(p, kind='stable')
    steps = np.minimum(1.0, np.arange(len(p), 0, -1) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def sign_flip_p(differences: np.ndarray) -> float:
    """Exact two-sided p of the mean of paired differences, one a seed, were each as likely to have the other sign.

    p = #(|sum of e_i d_i| >= |sum of d_i|) / 2^n over all signs e (Fisher 1935, "The design of experiments", §21).
    Tells of seeds alone: the test set is taken as given.

    Args:
        differences: float [seeds], 2 to 16 of them.

    Raises:
        UserError: not [seeds], fewer than 2, or not finite.
        ValueError: more than 16 seeds, too many to enumerate.
    """
    d = np.asarray(differences, np.float64)
    if d.ndim != 1 or len(d) < 2:
        raise UserError(f'differences are [seeds] with at least 2 seeds, but their shape is {list(d.shape)}')
    if len(d) > MOST_SEEDS:
        raise ValueError(f'{len(d)} seeds have 2^{len(d)} sign patterns; up to {MOST_SEEDS} seeds are enumerated')
    if not np.isfinite(d).all():
        raise UserError(f'{np.count_nonzero(~np.isfinite(d))} of {len(d)} differences are not finite')
    flips = (np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1
    sums = np.abs((1 - 2 * flips) @ d)
    # Patterns that tie on paper, as whole counts of examples do, must tie in spite of rounding.
    slack = 1e-12 * np.abs(d).sum()
    return float(np.mean(sums >= abs(d.sum()) - slack))


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p that a sign-flip test of this many paired seeds can give: 2 / 2^seeds.

    Raises:
        UserError: fewer than 1 seed.
    """
    if seeds < 1:
        raise UserError(f'{seeds} seeds: at least 1')
    return 2.0 ** (1 - seeds)


def seeds_needed(comparisons: int, *, alpha: float = 0.05) -> int:
    """The fewest paired seeds whose smallest p passes Holm's smallest threshold: 2 / 2^n <= alpha / comparisons.

    With fewer, not even the clearest of the comparisons can be significant by a test of seeds alone.

    Raises:
        UserError: fewer than 1 comparison, or alpha not in (0, 1).
    """
    if comparisons < 1:
        raise UserError(f'{comparisons} comparisons: at least 1')
    if not 0 < alpha < 1:
        raise UserError(f'alpha = {alpha} is not between 0 and 1')
    seeds = 1
    while smallest_p(seeds) > alpha / comparisons:
        seeds += 1
    return seeds
