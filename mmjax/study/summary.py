"""A study's numbers, from its ledger alone: scores, differences from the reference with intervals, tuning."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.study.ledger import unpacked
from mmjax.study.multiplicity import holm, seeds_needed, smallest_p
from mmjax.study.runs import Sizes, best_rate, left_out, tuning_scores
from mmjax.study.statistics import arm_difference, arm_mean, equivalent
from mmjax.study.study import Study

Rows = Mapping[str, Mapping[str, Any]]


def summarise(study: Study, sizes: Sizes, rows: Rows, *, clusters: np.ndarray) -> dict[str, Any]:
    """Returns, as JSON: by regime and arm its size, chosen rate, score with interval and difference from the reference.

    clusters: int [examples] of the split of `primary`. Only arms all of whose seeds are done have a score. p-values are
    Holm's over the declared comparisons of all regimes together that have one; `equivalent` is TOST within ±delta.
    """
    unmatched = left_out(sizes)
    regimes: dict[str, dict[str, Any]] = {regime: {} for regime in study.regimes}
    declared: list[dict[str, Any]] = []
    for (regime, arm), fit in sizes.items():
        entry: dict[str, Any] = dataclasses.asdict(fit) | {'matched': (regime, arm) not in unmatched}
        regimes[regime][arm] = entry
        scores = tuning_scores(study, (regime, arm), rows)
        if scores:
            rate = best_rate(scores)
            entry |= {
                'tuning': {f'{r:g}': score for r, score in sorted(scores.items())},
                'rate': rate,
                'rate_on_edge': rate in (min(scores), max(scores)),
            }
        correct, diverged = _finals(study, regime, arm, rows, len(clusters))
        entry['diverged'] = diverged
        if correct is None:
            continue
        mean = arm_mean(correct, clusters=clusters)
        entry |= {'score': mean.estimate, 'low': mean.low, 'high': mean.high, 'by_seed': correct.mean(axis=1).tolist()}
        reference, _ = _finals(study, regime, study.reference, rows, len(clusters))
        if arm != study.reference and reference is not None:
            difference = arm_difference(correct, reference, clusters=clusters)
            narrow = arm_difference(correct, reference, clusters=clusters, level=0.9)
            entry['difference'] = {
                'estimate': difference.estimate,
                'low': difference.low,
                'high': difference.high,
                'p': difference.p_value,
                'equivalent': equivalent(narrow, delta=study.delta),
            }
            if arm in study.comparisons:
                declared.append(entry['difference'])
    for entry, p in zip(declared, holm(np.array([d['p'] for d in declared])) if declared else (), strict=True):
        entry['p_holm'] = float(p)
    return {
        'study': study.name,
        'reference': study.reference,
        'primary': study.primary,
        'seeds': len(study.seeds),
        'family': study.family,
        'smallest_p_of_seeds': smallest_p(len(study.seeds)),
        'seeds_needed': seeds_needed(max(1, study.family)),
        'regimes': regimes,
    }


def _finals(study: Study, regime: str, arm: str, rows: Rows, examples: int) -> tuple[np.ndarray | None, int]:
    """Whether each seed is right on each example, [seeds, examples], None while a seed is missing; how many diverged.

    Of the rate that tuning chose: runs at another one, left from before a grid was extended, do not count.
    """
    scores = tuning_scores(study, (regime, arm), rows)
    if not scores:
        return None, 0
    chosen = best_rate(scores)
    by_seed = {
        row['seed']: row
        for row in rows.values()
        if (row['regime'], row['arm'], row['phase'], row['rate']) == (regime, arm, 'final', chosen)
    }
    done = [by_seed[seed] for seed in study.seeds if seed in by_seed]
    diverged = sum(row['diverged'] for row in done)
    if len(done) < len(study.seeds):
        return None, diverged
    return np.stack([unpacked(row['correct'], examples) for row in done]), diverged
