"""The plots of a study's report, one small SVG each, from its summary."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.study.probes import subset_name
from mmjax.study.study import TOLERANCE
from mmjax.train.figures import FADED, PALETTE, data_uri, labels, legend, new_figure

Arms = Mapping[str, Mapping[str, Any]]  # of one regime, by name
Picture = tuple[str, str]  # a title, and an SVG as a data URI

SIZES = (('parameters', 'parameters, thousands', 1e3), ('flops', 'MFLOPs of a step on one example', 1e6))
DASHES = ('-', '--', ':')
SCORE = 'score, %'


def plots(arms: Arms, *, reference: str, known: Mapping[str, float]) -> Iterator[Picture]:
    """Of one regime; a plot that has nothing to show is left out. known: scores that are drawn as lines."""
    done = {name: arm for name, arm in arms.items() if 'score' in arm}
    if not done:
        return
    yield from _against_size(done)
    yield 'Every seed', _strips(done, reference, known)
    yield 'Learning rate', _rates(done)
    yield 'Training loss over the run', _curves(done)
    probed = {name: arm for name, arm in done.items() if 'probes' in arm}
    if not probed:
        return
    modalities = list(next(iter(probed.values()))['shapley'])
    for modality in modalities:
        yield f'Share of examples without {modality}', _missing(done, probed, modality, modalities)
    for modality in modalities:
        yield f'Noise on {modality}', _noise(probed, modality, modalities)
    yield 'What each modality is worth (Shapley)', _shares(probed, modalities)


def across(regimes: Mapping[str, Arms]) -> Iterator[Picture]:
    """Every design at the sizes that it has in all regimes, and whatever was not brought to a size; none where there is
    one regime.
    """
    done = {(r, a): arm for r, arms in regimes.items() for a, arm in arms.items() if _placed(arm)}
    if len({regime for regime, _ in done}) < 2:
        return
    for what, unit, scale in SIZES:
        figure, axes = new_figure(4.6, 3.6)
        points = {place: (arm[what] / scale, 100 * arm['score']) for place, arm in done.items()}
        names = list(dict.fromkeys(name for _, name in done))
        for name, style in _styles(names):
            own = sorted({point for (_, arm), point in points.items() if arm == name})
            axes.plot(*zip(*own, strict=True), label=name, linewidth=1.2, marker='o', markersize=3, **style)
        best = [points[place] for place in front(points)]
        axes.plot(*zip(*best, strict=True), color=FADED, linewidth=4, alpha=0.4)
        labels(axes, x=unit, y=SCORE)
        legend(axes, loc='upper left', bbox_to_anchor=(1, 1))
        yield f'Score against {what}, the front in grey', data_uri(figure)


def _placed(arm: Mapping[str, Any]) -> bool:
    """Whether a size and a score of it say what size is worth: a design's, or that of a larger reference."""
    return 'score' in arm and (arm['role'] == 'design' or abs(arm['gap']) > max(TOLERANCE.values()))


def front(points: Mapping[Any, tuple[float, float]]) -> list[Any]:
    """Names of the points (cost, score) that no other beats in one without losing in the other, by cost."""
    best: list[Any] = []
    for name, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not best or score > points[best[-1]][1]:
            best.append(name)
    return best


def _styles(names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A colour for each arm, and where colours end, other dashes."""
    for i, name in enumerate(names):
        yield name, {'color': PALETTE[i % len(PALETTE)], 'linestyle': DASHES[i // len(PALETTE) % len(DASHES)]}


def _designs(arms: Arms) -> list[str]:
    return [name for name, arm in arms.items() if arm['role'] == 'design']


def _against_size(arms: Arms) -> Iterator[Picture]:
    for what, unit, scale in SIZES:
        figure, axes = new_figure(4.6, 3.2)
        points = {name: (arm[what] / scale, 100 * arm['score']) for name, arm in arms.items()}
        for name, (x, y) in points.items():
            arm, design = arms[name], arms[name]['role'] == 'design'
            below, above = y - 100 * arm['low'], 100 * arm['high'] - y
            color = PALETTE[0] if design else FADED
            axes.errorbar([x], [y], yerr=[[below], [above]], fmt='o', markersize=4, color=color, linewidth=1)
        best = front(points)
        axes.plot(*zip(*(points[name] for name in best), strict=True), color=PALETTE[1], linewidth=1)
        for name in best:
            axes.annotate(name, points[name], fontsize=7, xytext=(4, -9), textcoords='offset points')
        labels(axes, x=unit, y=SCORE)
        yield f'Score against {what}, with the front', data_uri(figure)


def _strips(arms: Arms, reference: str, known: Mapping[str, float]) -> str:
    ordered = sorted(arms, key=lambda name: arms[name]['score'])
    figure, axes = new_figure(4.6, 0.9 + 0.2 * len(ordered))
    for place, name in enumerate(ordered):
        scores = 100 * np.array(arms[name]['by_seed'])
        color = PALETTE[1] if name == reference else PALETTE[0] if arms[name]['role'] == 'design' else FADED
        axes.plot(scores, np.full(len(scores), place), 'o', color=color, markersize=3, alpha=0.6)
        axes.plot([100 * arms[name]['score']], [place], '|', color='#1c2024', markersize=9)
    for value in sorted(set(known.values())):
        told = '\n'.join(what for what, other in known.items() if other == value)
        axes.axvline(100 * value, color=FADED, linewidth=1, linestyle='--')
        axes.annotate(told, (100 * value, len(ordered) - 0.4), fontsize=6, color='#646b73', ha='center', va='bottom')
    axes.set_yticks(range(len(ordered)), ordered)
    axes.grid(axis='y', visible=False)
    labels(axes, x=SCORE)
    return data_uri(figure)


def _rates(arms: Arms) -> str:
    figure, axes = new_figure(4.6, 3.6)
    for name, style in _styles(_designs(arms)):
        tried = {float(rate): 100 * score for rate, score in arms[name]['tuning'].items()}
        axes.plot(list(tried), list(tried.values()), label=name, linewidth=1.2, **style)
    axes.set_xscale('log')
    labels(axes, x='peak learning rate', y='validation, %')
    legend(axes, loc='upper left', bbox_to_anchor=(1, 1))
    return data_uri(figure)


def _curves(arms: Arms) -> str:
    figure, axes = new_figure(4.6, 3.6)
    for name, style in _styles(_designs(arms)):
        curve = np.array(arms[name]['curve'], float)
        axes.plot(100 * np.arange(1, len(curve) + 1) / len(curve), curve, label=name, linewidth=1.2, **style)
    axes.set_yscale('log')
    labels(axes, x='share of the steps, %', y='loss')
    legend(axes, loc='upper left', bbox_to_anchor=(1, 1))
    return data_uri(figure)


def _missing(arms: Arms, probed: Arms, modality: str, modalities: Sequence[str]) -> str:
    """Straight lines: at a missing rate r, (1 - r) of the clean score and r of the one without."""
    figure, axes = new_figure(4.6, 3.6)
    left = subset_name([m for m in modalities if m != modality])
    for name, style in _styles(_designs(probed)):
        probes = probed[name]['probes']
        ends = [100 * probes[subset_name(modalities)], 100 * probes[left]]
        axes.plot([0, 1], ends, label=name, linewidth=1.2, **style)
    for name, arm in arms.items():
        if arm['role'] == 'unimodal':
            axes.axhline(100 * arm['score'], color=FADED, linewidth=1, linestyle='--')
            axes.annotate(name, (0, 100 * arm['score']), fontsize=7, color='#646b73')
    labels(axes, x=f'share without {modality}', y=SCORE)
    legend(axes, loc='upper left', bbox_to_anchor=(1, 1))
    return data_uri(figure)


def _noise(probed: Arms, modality: str, modalities: Sequence[str]) -> str:
    figure, axes = new_figure(4.6, 3.6)
    for name, style in _styles(_designs(probed)):
        probes, start = probed[name]['probes'], f'noise:{modality}:'
        points = {0.0: 100 * probes[subset_name(modalities)]}
        points |= {float(n.removeprefix(start)): 100 * v for n, v in probes.items() if n.startswith(start)}
        axes.plot(sorted(points), [points[level] for level in sorted(points)], label=name, linewidth=1.2, **style)
    labels(axes, x='level', y=SCORE)
    legend(axes, loc='upper left', bbox_to_anchor=(1, 1))
    return data_uri(figure)


def _shares(probed: Arms, modalities: Sequence[str]) -> str:
    names = list(probed)
    figure, axes = new_figure(4.6, 0.9 + 0.22 * len(names))
    start = np.zeros(len(names))
    for modality, color in zip(modalities, PALETTE, strict=False):
        worth = 100 * np.array([probed[name]['shapley'][modality] for name in names])
        axes.barh(names, worth, left=start, color=color, label=modality, height=0.7)
        start = start + worth
    axes.grid(axis='y', visible=False)
    axes.tick_params(axis='y', labelsize=7)
    labels(axes, x='points of accuracy above no input')
    legend(axes)
    return data_uri(figure)
