"""A study's numbers, from its ledger alone: scores, differences from the reference with intervals, tuning."""

import dataclasses
from typing import Any

import numpy as np

from mmjax.errors import UserError
from mmjax.study.ledger import unpacked
from mmjax.study.multiplicity import holm, seeds_needed, smallest_p
from mmjax.study.plan import Place, Plan, Rows
from mmjax.study.statistics import arm_difference, arm_mean, equivalent


def summarise(plan: Plan, rows: Rows, *, clusters: np.ndarray) -> dict[str, Any]:
    """Returns, as JSON: by regime and arm its size, chosen rate, score with interval and difference from the reference.

    clusters: int [examples] of the split of `primary`. Only arms all of whose seeds are done have a score. p-values are
    Holm's over all declared comparisons of all regimes; one that has no result (its arm cannot be matched, or is not
    done) counts with p = 1. `equivalent` is TOST within ±delta.
    """
    study = plan.study
    regimes: dict[str, dict[str, Any]] = {regime: {} for regime in study.regimes}
    declared: list[dict[str, Any]] = []
    for place, fit in plan.sizes.items():
        regime, arm = place
        regimes[regime][arm] = entry = dataclasses.asdict(fit) | {'matched': place in plan.places}
        if not entry['matched']:
            continue
        scores = {rate: score for rate, score in plan.tuning(place, rows).items() if score is not None}
        rate = plan.chosen(place, rows)
        entry['tuning'] = {f'{r:g}': score for r, score in scores.items()}
        if rate is not None:
            entry |= {'rate': rate, 'rate_on_edge': rate in (min(scores), max(scores))}
        correct, entry['diverged'] = _finals(plan, place, rows, len(clusters))
        if correct is None:
            continue
        mean = arm_mean(correct, clusters=clusters)
        entry |= {'score': mean.estimate, 'low': mean.low, 'high': mean.high, 'by_seed': correct.mean(axis=1).tolist()}
        reference, _ = _finals(plan, (regime, study.reference), rows, len(clusters))
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
    p_values = np.ones(study.family)
    p_values[: len(declared)] = [difference['p'] for difference in declared]
    for difference, p in zip(declared, holm(p_values), strict=False):
        difference['p_holm'] = float(p)
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


def _finals(plan: Plan, place: Place, rows: Rows, examples: int) -> tuple[np.ndarray | None, int]:
    """Whether each seed is right on each example, [seeds, examples], None while one is missing; how many diverged."""
    rate = plan.chosen(place, rows)
    if rate is None:
        return None, 0
    runs = [plan.run(place, 'final', rate, seed) for seed in plan.study.seeds]
    done = [rows[run.key] for run in runs if run.key in rows]
    diverged = sum(row['diverged'] for row in done)
    if len(done) < len(runs):
        return None, diverged
    for row in done:
        if row['examples'] != examples:
            raise UserError(f'{row["run"]}: has {row["examples"]} examples of {plan.study.primary}, not {examples}')
    return np.stack([unpacked(row['correct'], examples) for row in done]), diverged
