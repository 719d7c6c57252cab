"""What the probes of an arm's trained models tell: robustness, shares of the modalities, need of interaction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import Words
from mmjax.data.transforms import transforms_of
from mmjax.study.curves import curve_area, relative_area
from mmjax.study.ledger import unpacked
from mmjax.study.probes import subset_name
from mmjax.study.shares import conditional_utilisation, cooperation, shapley
from mmjax.study.statistics import arm_difference, half_width, interval
from mmjax.study.study import Study
from mmjax.views.noise import Noise

Row = Mapping[str, Any]


def examined(
    done: Sequence[Row], study: Study, additive_clusters: np.ndarray, *, rivals: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Of one arm's finished seeds: means over them.

    other: every other metric of the evaluations. probes: accuracy by probe. noise: by modality the area under the
    accuracy over the levels, and its share of the clean accuracy. worst: the modality whose absence costs most.
    shapley, utilisation, cooperation: see `mmjax.study.shares`. additive_gap: the accuracy that the additive projection
    loses, with an interval. explained, pictures: of the first seed, see `mmjax.study.explained`. curve: the training
    loss over time. gradients: each encoder's share of the gradients' norms. losses: of several objectives each
    one's, at the end of training.

    rivals: the finished rows of the same seeds of other arms. over_seeds: of each accuracy among `other` and `probes`
    half the width of its interval over seeds, and by rival that has it the difference from it, with its own half width.
    """
    metrics = {name: _mean(row['metrics'][name] for row in done) for name in done[0]['metrics']}
    told: dict[str, Any] = {'other': {n: v for n, v in metrics.items() if ':' not in n and n != study.primary}}
    curves = [row['curve'] for row in done]
    told['curve'] = [_finite_mean(values) for values in zip(*(curve['loss'] for curve in curves), strict=True)]
    told['gradients'] = _gradients(curves, study.base.model.inputs)
    losses = [name for name in curves[0] if name.startswith('loss/') and all(name in curve for curve in curves)]
    if losses:
        told['losses'] = {n.removeprefix('loss/'): _finite_mean(curve[n][-1] for curve in curves) for n in losses}
    if 'explained' in done[0]:
        told['explained'] = {k: v for k, v in done[0]['explained'].items() if k != 'pictures'}
        told['pictures'] = [_named(picture, study) for picture in done[0]['explained'].get('pictures', ())]
    if 'additive' in done[0]:
        model, projection = (
            np.stack([unpacked(row['additive'][what], row['additive']['examples']) for row in done])
            for what in ('model', 'projection')
        )
        gap = arm_difference(model, projection, clusters=additive_clusters)
        told['additive_gap'] = interval(gap)
        told['additive_score'] = float(projection.mean())
    told['over_seeds'] = {_short(n): _over_seeds(done, rivals, n) for n in metrics if '/accuracy' in n}
    probed = {_short(n): v for n, v in metrics.items() if ':' in n and n.endswith('/accuracy')}
    if study.probes is not None and probed:
        told |= _probed(probed, study)
    return told


def _probed(probed: dict[str, float], study: Study) -> dict[str, Any]:
    assert study.probes is not None
    modalities = study.base.model.inputs
    clean = probed[subset_name(modalities)]
    values = {
        frozenset(m for m in name.removeprefix('with:').split('+') if m): score
        for name, score in probed.items()
        if name.startswith('with:')
    }
    noise = {}
    for modality in modalities:
        levels = {v.level: n for n, v in study.probes.views.items() if isinstance(v, Noise) and v.modality == modality}
        if levels:
            at = np.array([0.0, *sorted(levels)])
            scores = np.array([clean, *(probed[levels[level]] for level in sorted(levels))])
            noise[modality] = {'area': curve_area(scores, levels=at), 'share': relative_area(scores, levels=at)}
    without = {m: values[frozenset(modalities) - {m}] for m in modalities}
    return {
        'probes': probed,
        'noise': noise,
        'worst': min(without, key=lambda m: without[m]),
        'shapley': shapley(values),
        'utilisation': conditional_utilisation(values),
        'cooperation': cooperation(values) if len(modalities) == 2 else None,
    }


def _short(metric: str) -> str:
    """A probe has one score, and goes by its own name."""
    return metric.removesuffix('/accuracy') if ':' in metric else metric


def _over_seeds(done: Sequence[Row], rivals: Mapping[str, Sequence[Row]], metric: str) -> dict[str, Any]:
    def scores(rows: Sequence[Row]) -> np.ndarray:
        return np.array([float(row['metrics'][metric]) for row in rows])

    paired = {
        name: scores(done) - scores(rows)
        for name, rows in rivals.items()
        if len(rows) == len(done) and metric in rows[0]['metrics']
    }
    return {
        'half_width': half_width(scores(done)),
        'over': {n: {'estimate': float(x.mean()), 'half_width': half_width(x)} for n, x in paired.items()},
    }


def _named(picture: Row, study: Study) -> dict[str, Any]:
    """A picture with its words and the names of its classes, so that a report needs no data."""
    assert study.explanation is not None
    words = []
    for transform in transforms_of(study.base.data):
        other = picture['others'].get(getattr(transform, 'key', None))
        if other is not None and isinstance(transform, Words):
            real = [(i, r) for i, r in zip(other['ids'], other['relevance'], strict=True) if i]
            words += [(transform.decode([i]), r) for i, r in real]
    names = study.explanation.classes
    told = {k: (names[picture[k]] if names else str(picture[k])) for k in ('answer', 'target')}
    return {**picture, 'words': words, 'answer_name': told['answer'], 'target_name': told['target']}


def _gradients(curves: Sequence[Any], modalities: Sequence[str]) -> dict[str, float]:
    norms = {m: _mean(v for c in curves for v in c[f'grad_norm/{m}'] if not isinstance(v, str)) for m in modalities}
    total = sum(norms.values())
    return {m: norm / total for m, norm in norms.items()} if total > 0 else norms


def _finite_mean(values: Any) -> float | None:
    """Of the seeds that had not diverged; None where all had."""
    numbers = [value for value in values if not isinstance(value, str)]
    return float(np.mean(numbers)) if numbers else None


def _mean(values: Any) -> float:
    return float(np.mean([float(value) for value in values]))
