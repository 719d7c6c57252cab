"""A study's numbers, from its ledger alone: scores, differences from the reference with intervals, tuning, probes."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.errors import UserError
from mmjax.study.additive import sampled
from mmjax.study.curves import expected_best
from mmjax.study.examined import examined
from mmjax.study.ledger import unpacked
from mmjax.study.multiplicity import MOST_SEEDS, holm, seeds_needed, sign_flip_p, smallest_p
from mmjax.study.plan import Place, Plan, Rows
from mmjax.study.statistics import Difference, arm_difference, arm_mean, equivalent, interval
from mmjax.study.study import Study
from mmjax.train.metrics import rounded

RIVALS = ('unimodal', 'no_flow')  # roles that a design must beat to be said to use all modalities
TRIALS = 3  # of a smaller budget of tuning, for which the best is predicted


def summarise(
    plan: Plan, rows: Rows, *, clusters: np.ndarray, costs: Mapping[Place, Mapping[str, float]]
) -> dict[str, Any]:
    """Returns, as JSON: by regime and arm its size, chosen rate, score with interval and difference from the reference,
    what its probes gave, and whether it uses all modalities.

    clusters: int [examples] of the split of `primary`. costs: of steps, see `known_costs`. Only arms all of whose seeds
    are done have a score. p-values are Holm's over all declared comparisons of all regimes; one that has no result (its
    arm cannot be matched, or is not done) counts with p = 1. `equivalent` is TOST within ±delta.
    """
    study = plan.study
    regimes: dict[str, dict[str, Any]] = {regime: {} for regime in study.regimes}
    declared: list[dict[str, Any]] = []
    right = _right(plan, rows, len(clusters))
    rivals = {place: finals(plan, place, rows) for place in right if _is_rival(study, place[1])}
    sampled_clusters = clusters[sampled(len(clusters), study.probes.additive if study.probes else 0)]
    for place, fit in plan.sizes.items():
        regime, arm = place
        regimes[regime][arm] = entry = dataclasses.asdict(fit) | {
            'role': study.arm(arm).role,
            'matched': place in plan.places,
        }
        if not entry['matched']:
            continue
        entry |= {'step': dict(costs[place])} if place in costs else {}
        entry |= _tuned(plan, place, rows)
        done = finals(plan, place, rows)
        entry['diverged'] = sum(row['diverged'] for row in done)
        if place not in right:
            continue
        correct = right[place]
        mean = arm_mean(correct, clusters=clusters)
        entry |= {'score': mean.estimate, 'low': mean.low, 'high': mean.high, 'by_seed': correct.mean(axis=1).tolist()}
        others = {a: done for (r, a), done in rivals.items() if r == regime and a != arm}
        entry |= examined(done, study, sampled_clusters, rivals=others)
        against = right.get((regime, study.reference))
        if arm == study.reference:
            entry['agreement'] = _agreement(correct, np.roll(correct, 1, axis=0))  # with its run of another seed
        elif against is not None:
            entry['agreement'] = _agreement(correct, against)
            found = arm_difference(correct, against, clusters=clusters)
            entry['difference'] = _told(found, correct, against) | {'equivalent': equivalent(found, delta=study.delta)}
            if arm in study.comparisons:
                declared.append(entry['difference'])
    for regime, arms in regimes.items():
        _judge(
            {arm: right[regime, arm] for arm in arms if (regime, arm) in right},
            arms,
            clusters,
            modalities=len(study.base.model.inputs),
        )
    p_values = np.ones(study.family)
    p_values[: len(declared)] = [difference['p'] for difference in declared]
    for difference, p in zip(declared, holm(p_values), strict=False):
        difference['p_holm'] = float(p)
    return {
        'study': study.name,
        'reference': study.reference,
        'primary': study.primary,
        'references': dict(study.base.evals[study.primary_split].references) | study.references,
        'seeds': len(study.seeds),
        'selection': study.selection,
        'tuning_seeds': len(study.tuning_seeds),
        'steps': study.base.steps,
        'family': study.family,
        'smallest_p_of_seeds': smallest_p(len(study.seeds)),
        'seeds_needed': seeds_needed(max(1, study.family)),
        'code': _code(plan, rows),
        'regimes': regimes,
    }


def _code(plan: Plan, rows: Rows) -> dict[str, int]:
    """How many of the runs that count are of which commit of the code, the commonest first."""
    used = [rows[run.key] for runs in plan.wanted(rows) for run in runs if run.key in rows]
    names = [(row.get('commit') or 'not recorded')[:12] + (', changed' if row.get('dirty') else '') for row in used]
    return dict(Counter(names).most_common())


def _is_rival(study: Study, arm: str) -> bool:
    """Whether each metric is told as a difference from this arm too."""
    return arm == study.reference or study.arm(arm).role == 'no_flow'


def finals(plan: Plan, place: Place, rows: Rows) -> list[Any]:
    """The rows of an arm's fresh seeds that are done, in the order of the seeds."""
    rate = plan.chosen(place, rows)
    if rate is None:
        return []
    keys = [plan.run(place, 'final', rate, seed).key for seed in plan.study.seeds]
    return [rows[key] for key in keys if key in rows]


def _tuned(plan: Plan, place: Place, rows: Rows) -> dict[str, Any]:
    scores = {rate: score for rate, score in plan.tuning(place, rows).items() if score is not None}
    keys = [plan.run(place, 'tune', rate, seed).key for rate in scores for seed in plan.study.tuning_seeds]
    told: dict[str, Any] = {'tuning': {f'{rate:.3g}': score for rate, score in scores.items()}}
    told['diverged_in_tuning'] = sum(rows[key]['diverged'] for key in keys)
    if len(scores) >= TRIALS:
        told['expected_best'] = expected_best(np.array(list(scores.values())), trials=TRIALS)
    rate = plan.chosen(place, rows)
    if rate is not None:
        told |= {'rate': rounded(rate, digits=3), 'rate_on_edge': rate in (min(scores), max(scores))}
    return told


def _judge(right: dict[str, np.ndarray], arms: dict[str, Any], clusters: np.ndarray, *, modalities: int) -> None:
    """Says of every design whether it `uses_all`: it beats each modality alone, it beats what has no flow, and its
    additive projection does worse than it does; each by an interval that excludes 0. None where a control is missing,
    and of more than two modalities, of which a design may do all that with some.
    """
    roles = {role: [arm for arm in right if arms[arm]['role'] == role] for role in RIVALS}
    for arm, own in right.items():
        entry = arms[arm]
        if entry['role'] != 'design':
            continue
        for role in RIVALS:
            best = max(roles[role], key=lambda other: arms[other]['score'], default=None)
            if best is not None:
                entry[f'over_{role}'] = {'arm': best, **_difference(own, right[best], clusters=clusters)}
        gaps = [entry.get(name) for name in (*(f'over_{role}' for role in RIVALS), 'additive_gap')]
        entry['uses_all'] = (
            None if None in gaps or modalities != 2 else all(gap['low'] > 0 for gap in gaps if gap is not None)
        )


def _right(plan: Plan, rows: Rows, examples: int) -> dict[Place, np.ndarray]:
    """Whether each seed is right on each example, [seeds, examples], of the arms all of whose seeds are done."""
    right = {}
    for place in plan.places:
        done = finals(plan, place, rows)
        for row in done:
            if row['examples'] != examples:
                raise UserError(f'{row["run"]}: has {row["examples"]} examples of the reported split, not {examples}')
        if len(done) == len(plan.study.seeds):
            right[place] = np.stack([unpacked(row['correct'], examples) for row in done])
    return right


def _agreement(own: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Shares of the examples on which both, one alone, or neither is right, seed by seed."""
    return {
        'both': float((own & other).mean()),
        'arm': float((own & ~other).mean()),
        'reference': float((~own & other).mean()),
        'neither': float((~own & ~other).mean()),
    }


def _difference(a: np.ndarray, b: np.ndarray, *, clusters: np.ndarray) -> dict[str, Any]:
    return _told(arm_difference(a, b, clusters=clusters), a, b)


def _told(found: Difference, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    told = interval(found) | {'p': found.p_value}
    return told | {'p_of_seeds': sign_flip_p(a.mean(axis=1) - b.mean(axis=1))} if len(a) <= MOST_SEEDS else told
