"""`report.html` of a study: one self-contained page of tables and plots, from its summary."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.study.pictures import picture
from mmjax.study.plots import Arms, across, plots
from mmjax.study.probes import subset_name
from mmjax.study.study import TOLERANCE
from mmjax.train.report_html import Html, join, page, tag

HEAD = (
    'arm', 'parameters', 'MFLOPs', 'layers', 'MLP ratio', 'step', 'MB', 'score', 'interval', 'difference', 'interval',
    'p', 'p of seeds alone',
)  # fmt: skip
USES = (
    'A design is said to use all modalities where it beats the best single one, beats the same model without flow '
    'between them, and loses accuracy when its logits are replaced by their additive projection (EMAP): each by an '
    'unadjusted 95 % interval that excludes 0 (exploratory; the projection is made on a sample of the test, and its '
    "interval takes it as given). A shuffled modality is another example's, at test time alone."
)
SEEDS = (
    "After ±: half of Student's 95 % interval over seeds, which takes the test set as given; then in brackets the "
    'difference from "{reference}", seed by seed. Neither is adjusted for how many there are (exploratory).'
)
ROBUST = (
    'Accuracy without a modality, and area under the accuracy over levels of noise (and as a share of the clean '
    'score). Where a share r of the examples lack a modality at random, the score is (1 - r) clean + r without, '
    'and its area over all r the mean of both.'
)
BALANCE = (
    'Which modality a trained model leans on. Worth: its Shapley value, in points of accuracy over no input. '
    'Utilisation: the share of the accuracy that is lost without it. Together: what two modalities tell beyond what '
    'each tells alone (with both, less with either alone, plus with none). What is left out is absent, and a model '
    "that was never trained so may do worse than it need. Gradients: the share of the norms of the encoders' "
    'gradients in training; a larger encoder has a larger one.'
)
EXPLAINED = (
    'Of the first seed. Perturbation: area under the share of unchanged answers while tokens are masked, the most or '
    'the least relevant first; a method that found what the model needs has a large difference, and chance gives 0. '
    'Pointing game: the most relevant cell of the image holds a part of the object. Rules that do not know a design '
    'are left out. Randomised: the rank correlation with what the method tells of a model that was not trained; near 1 '
    'it does not show the model (0 also where it tells the same of all tokens). Incomplete: of how many examples the '
    'integrated gradients miss more than 1 % of the change of the logit that they explain.'
)
TUNING = (
    'Validation score of each learning rate, mean over {seeds} seed(s), and the one that was chosen. "Edge": nothing '
    'beyond it was tried, so the arm may be worth more than it shows. "Best of 3": the score expected of tuning with '
    'three of the rates that were tried, drawn at random with replacement; arms whose grid was extended have more.'
)


def write_report(summary: Mapping[str, Any], path: Path) -> None:
    """Writes the page."""
    path.write_text(render(summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text; the same summary gives the same page."""
    regimes: dict[str, Arms] = dict(summary['regimes'])
    return page(
        f'Study {summary["study"]}',
        tag('h1', f'Study {summary["study"]}'),
        tag('p', _how(summary), class_='soft'),
        *(_regime(name, arms) for name, arms in regimes.items()),
        *_beside(regimes, summary['reference']),
        tag('h2', 'Do they use all modalities?'),
        tag('p', USES),
        *_each(regimes, _uses),
        tag('h2', 'Less input, worse input'),
        tag('p', f'{ROBUST} {SEEDS.format(reference=summary["reference"])}'),
        *_each(regimes, functools.partial(_robust, reference=summary['reference'])),
        tag('h2', 'Balance of the modalities'),
        tag('p', BALANCE),
        *_each(regimes, _balance),
        *_attribution(regimes),
        tag('h2', 'Tuning'),
        tag('p', TUNING.format(seeds=summary['tuning_seeds'])),
        *_each(regimes, _tuning),
        *_figures('Plots, across regimes', across(regimes)),
        *(
            html
            for name, arms in regimes.items()
            for html in _figures(f'Plots, at equal {name}', plots(arms, reference=summary['reference']))
        ),
    )


def _how(summary: Mapping[str, Any]) -> str:
    read_against = ', '.join(f'{what} {_percent(value)}' for what, value in summary['references'].items())
    return (
        f'{summary["primary"]}, mean over {summary["seeds"]} paired seeds of {summary["steps"]:,} steps, in percent; '
        f'MFLOPs are of a training step on one example; a step takes that many times what one of the arm '
        f'"{summary["reference"]}" takes (whose own number tells the noise), and MB as the compiler counts them, on '
        f'the machine that measured it. Intervals: 95 %, bootstrap over seeds and images. Differences '
        f'are from the arm "{summary["reference"]}"; p is adjusted by Holm over {summary["family"]} declared '
        f'comparisons; beside it, unadjusted, that of the sign-flip test of seeds alone, which cannot go below '
        f'{summary["smallest_p_of_seeds"]:.2g}. A run that diverged counts with its last finite state.'
    ) + (f' To read it against: {read_against}.' if read_against else '')


def _each(regimes: Mapping[str, Arms], table: Any) -> Iterable[Html]:
    for name, arms in regimes.items():
        yield join(tag('h3', f'At equal {name}'), table(arms))


def _regime(name: str, arms: Arms) -> Html:
    ordered = sorted(arms.items(), key=lambda item: -item[1].get('score', -1))
    rows = [_row(arm, entry) for arm, entry in ordered if entry['matched']]
    outside = [f'{arm} ({entry["gap"]:+.1%})' for arm, entry in arms.items() if not entry['matched']]
    note = f'Left out, as they cannot be matched (gap): {", ".join(outside)}.' if outside else ''
    return join(tag('h2', f'At equal {name}'), _table(HEAD, rows), tag('p', note, class_='soft'))


def _row(arm: str, entry: Mapping[str, Any]) -> list[str]:
    if abs(entry['gap']) > max(TOLERANCE.values()):
        arm += f' (not matched: {entry["gap"]:+.0%})'
    size = [f'{entry["parameters"]:,}', f'{entry["flops"] / 1e6:,.1f}', _plain(entry['depth']), _plain(entry['ratio'])]
    step = entry.get('step')
    size += [f'{step["time"]:.2f}', f'{step["memory"] / 1e6:,.1f}'] if step else ['', '']
    if 'score' not in entry:
        return [arm, *size, 'not done', '', '', '', '', '']
    found = [_percent(entry['score']), f'{_percent(entry["low"])} to {_percent(entry["high"])}']
    if entry['diverged']:
        found[0] += f' ({entry["diverged"]} diverged)'
    difference = entry.get('difference')
    if difference is None:
        return [arm, *size, *found, '', '', '', '']
    p = f'{difference["p_holm"]:.3g}' if 'p_holm' in difference else entry['role'].replace('design', 'not declared')
    if difference['equivalent']:
        p += ', equivalent (unadjusted)'
    of_seeds = f'{difference["p_of_seeds"]:.3g}' if 'p_of_seeds' in difference else ''
    return [arm, *size, *found, *_change(difference), p, of_seeds]


def _beside(regimes: Mapping[str, Arms], reference: str) -> Iterable[Html]:
    """The other metrics of the evaluations, where there are any."""
    names = dict.fromkeys(n for arms in regimes.values() for e in arms.values() for n in e.get('other', {}))
    shown = [n for n in names if '/accuracy' in n and not n.startswith('validation')]
    if shown:
        yield tag('h2', 'Beside it')
        yield tag('p', SEEDS.format(reference=reference))
        for regime, arms in regimes.items():
            rows = [[a, *(_with_spread(e, n, reference) for n in shown)] for a, e in arms.items() if 'other' in e]
            yield join(tag('h3', f'At equal {regime}'), _table(['arm', *shown], rows))
            for rival in (arm for arm, entry in arms.items() if entry['role'] == 'no_flow' and 'other' in entry):
                rows = [
                    [a, *(_over(e, n, rival) for n in shown)]
                    for a, e in arms.items()
                    if e['role'] == 'design' and 'other' in e
                ]
                yield join(
                    tag('p', f'Over {rival}, without flow between the modalities:'), _table(['arm', *shown], rows)
                )


def _uses(arms: Arms) -> Html:
    modalities = _modalities(arms)
    head = ['arm', 'over one modality', 'interval', 'over no flow', 'interval', 'EMAP', 'loses', 'interval']
    head += [f'shuffled {m}' for m in modalities] + ['uses all']
    rows = []
    for arm, entry in arms.items():
        if 'over_unimodal' not in entry and 'additive_gap' not in entry:
            continue
        row = [arm, *_change(entry.get('over_unimodal')), *_change(entry.get('over_no_flow'))]
        row += [_percent(entry.get('additive_score')), *_change(entry.get('additive_gap'))]
        row += [_percent(entry.get('probes', {}).get(f'shuffled:{m}')) for m in modalities]
        verdict = entry.get('uses_all')
        rows.append([*row, '' if verdict is None else 'yes' if verdict else 'not shown'])
    return _table(head, rows)


def _robust(arms: Arms, *, reference: str) -> Html:
    modalities = _modalities(arms)
    head = ['arm', 'clean', *(f'without {m}' for m in modalities), 'nothing', *(f'noise on {m}' for m in modalities)]
    rows = []
    for arm, entry in arms.items():
        if 'probes' not in entry:
            continue
        left = [modalities, *([o for o in modalities if o != m] for m in modalities), []]
        noise = [entry['noise'].get(m) for m in modalities]
        areas = [f'{_percent(n["area"])}, {n["share"]:.2f} of it' if n else '' for n in noise]
        scores = [_with_spread(entry, subset_name(there), reference) for there in left]
        rows.append([arm, *scores, *areas, f'worst without {entry["worst"]}'])
    return _table([*head, ''], rows)


def _balance(arms: Arms) -> Html:
    modalities = _modalities(arms)
    told = (('shapley', 'worth of'), ('utilisation', 'utilisation of'), ('gradients', 'gradients of'))
    head = ['arm', *(f'{what} {m}' for _, what in told for m in modalities), 'together']
    rows = [
        [
            arm,
            *(_percent(entry[name].get(m)) for name, _ in told for m in modalities),
            _percent(entry['cooperation']),
        ]
        for arm, entry in arms.items()
        if 'shapley' in entry
    ]
    return _table(head, rows)


def _attribution(regimes: Mapping[str, Arms]) -> Iterable[Html]:
    if any('explained' in entry for arms in regimes.values() for entry in arms.values()):
        yield tag('h2', 'Attribution')
        yield tag('p', EXPLAINED)
        yield from _each(regimes, _explained)


def _explained(arms: Arms) -> Html:
    rows, shown = [], []
    for arm, entry in arms.items():
        for method, found in entry.get('explained', {}).items():
            share = ', '.join(f'{m} {_percent(value)}' for m, value in found['share'].items())
            areas = [_percent(found['areas'][order]) for order in ('positive', 'negative', 'difference')]
            game = found.get('pointing')
            hits = f'{_percent(game["hits"])} (chance {_percent(game["chance"])})' if game else ''
            checks = [_plain(found.get('randomised'), digits=2), _percent(found.get('incomplete'))]
            rows.append([arm, method.replace('_', ' '), share, *areas, hits, *checks])
        if entry.get('pictures'):
            pictures = tag('div', *map(picture, entry['pictures']), class_='examples')
            shown.append(tag('details', tag('summary', f'What {arm} looked at (integrated gradients)'), pictures))
    head = (
        'arm', 'method', 'share of the relevance', 'most first', 'least first', 'difference', 'pointing game',
        'randomised', 'incomplete',
    )  # fmt: skip
    return join(_table(head, rows), *shown)


def _tuning(arms: Arms) -> Html:
    rates = sorted({rate for entry in arms.values() for rate in entry.get('tuning', {})}, key=float)
    rows = []
    for arm, entry in arms.items():
        if 'rate' in entry:
            scores = [_percent(entry['tuning'].get(rate)) for rate in rates]
            best = _percent(entry.get('expected_best'))
            rows.append([arm, *scores, f'{entry["rate"]:g}', 'edge' if entry['rate_on_edge'] else '', best])
    return _table(['arm', *rates, 'chosen', '', 'best of 3'], rows)


def _figures(title: str, pictures: Iterable[tuple[str, str]]) -> Iterable[Html]:
    figures = [
        tag('figure', tag('figcaption', caption), tag('img', src=image, alt=caption)) for caption, image in pictures
    ]
    if figures:
        yield join(tag('h2', title), tag('div', *figures, class_='wide'))


def _modalities(arms: Arms) -> list[str]:
    return next((list(entry['shapley']) for entry in arms.values() if 'shapley' in entry), [])


def _change(difference: Mapping[str, Any] | None) -> list[str]:
    if difference is None:
        return ['', '']
    interval = f'{_percent(difference["low"])} to {_percent(difference["high"])}'
    return [f'{100 * difference["estimate"]:+.2f}', interval]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    body = [tag('tr', *(tag('td', cell) for cell in row)) for row in rows]
    top = tag('tr', *(tag('th', cell) for cell in head))
    return tag('div', tag('table', tag('thead', top), tag('tbody', *body), class_='arms'), class_='scroll')


def _with_spread(entry: Mapping[str, Any], name: str, reference: str) -> str:
    """A score of a metric or a probe with its spread over seeds, and its difference from the reference."""
    scores = entry['other'] | entry.get('probes', {})
    if name not in scores:
        return ''
    told = f'{_percent(scores[name])} ± {_percent(entry["over_seeds"][name]["half_width"])}'
    change = _over(entry, name, reference)
    return f'{told} ({change})' if change else told


def _over(entry: Mapping[str, Any], name: str, rival: str) -> str:
    difference = entry['over_seeds'].get(name, {'over': {}})['over'].get(rival)
    return f'{100 * difference["estimate"]:+.2f} ± {_percent(difference["half_width"])}' if difference else ''


def _percent(share: float | None) -> str:
    return '' if share is None else f'{100 * share:.2f}'


def _plain(value: Any, *, digits: int = 6) -> str:
    return '' if value is None else f'{value:.{digits}g}'
