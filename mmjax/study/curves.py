"""Scores along an axis as one number: best of n trials of tuning, area over levels of noise or of missing input."""

import numpy as np

from mmjax.errors import UserError


def expected_best(scores: np.ndarray, *, trials: int) -> float:
    """The score that tuning with so many trials is expected to reach, from the scores of all N trials that were made.

    E[max of n] = sum_i v_(i) [(i/N)^n - ((i-1)/N)^n] over the sorted scores v_(1) <= … <= v_(N) (Dodge et al. 2019,
    "Show your work", EMNLP, expected validation performance). It is the mean of the best of n drawn from the N with
    replacement, so too low for n near N (Tang et al. 2020, "Showing your work doesn't always work", ACL).

    Args:
        scores: float [trials made], validation scores, larger is better; trials drawn independently at random.
        trials: n, from 1 to the trials made.

    Raises:
        UserError: no scores, one that is not finite, or n out of range.
    """
    v = _finite(scores, 'scores are [trials]')
    if not 1 <= trials <= len(v):
        raise UserError(f'best of {trials} trials, but {len(v)} were made')
    share = np.arange(len(v) + 1) / len(v)
    return float(np.sort(v) @ np.diff(share**trials))


def curve_area(scores: np.ndarray, *, levels: np.ndarray) -> float:
    """Area under the scores by the trapezoid rule, divided by the range of levels: a mean, in units of the scores.

    Unlike MultiBench's (Liang et al. 2021, NeurIPS datasets, `eval_scripts/robustness.py`) it does not change with the
    number of levels or with the other methods compared.

    Args:
        scores: float [levels].
        levels: float [levels], ascending, such as shares of examples without their image.

    Raises:
        UserError: shapes differ, fewer than 2 levels, levels that do not ascend, or a number that is not finite.
    """
    y, x = _finite(scores, 'scores are [levels]'), _finite(levels, 'levels are [levels]')
    if len(y) != len(x):
        raise UserError(f'{len(y)} scores at {len(x)} levels')
    if len(x) < 2:
        raise UserError(f'{len(x)} level: an area needs at least 2')
    if not (np.diff(x) > 0).all():
        raise UserError(f'levels ascend, but these are {x.tolist()}')
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def relative_area(scores: np.ndarray, *, levels: np.ndarray) -> float:
    """`curve_area` divided by the score at level 0: 1 for an arm that loses nothing. Report it beside the area, since a
    poor arm has little to lose.

    Raises:
        UserError: as `curve_area`, or the first level is not 0, or the score there is not positive.
    """
    area, first, clean = curve_area(scores, levels=levels), float(levels[0]), float(scores[0])
    if first != 0:
        raise UserError(f'the first level is {first:g}, not 0: there is no score to be relative to')
    if not clean > 0:
        raise UserError(f'the score at level 0 is {clean:g}: a share of it needs one above 0')
    return area / clean


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise UserError(f'{what}, but the shape is {list(values.shape)}')
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong:
        raise UserError(f'{what}, and {wrong} of {len(values)} are not finite')
    return values
