"""`report.html` of a study: one self-contained page of tables and plots, from its summary."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.study.pictures import picture
from mmjax.study.plots import Arms, across, plots
from mmjax.study.probes import subset_name
from mmjax.study.report_texts import AGREE, BALANCE, EXPLAINED, HEAD, KNOWN, LOSSES, ROBUST, SEEDS, TUNING, USES, how
from mmjax.study.statistics import LEAST_P
from mmjax.study.study import TOLERANCE
from mmjax.train.report_html import Html, join, page, tag


def write_report(summary: Mapping[str, Any], path: Path) -> None:
    """Writes the page."""
    path.write_text(render(summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text; the same summary gives the same page."""
    regimes: dict[str, Arms] = dict(summary['regimes'])
    drawn = {'reference': summary['reference'], 'known': summary['references']}
    return page(
        f'Study {summary["study"]}',
        tag('h1', f'Study {summary["study"]}'),
        tag('p', how(summary), class_='soft'),
        *_known(summary['references']),
        *(_regime(name, arms) for name, arms in regimes.items()),
        *_beside(regimes, summary['reference']),
        tag('h2', 'Where they are right'),
        tag('p', AGREE.format(reference=summary['reference'])),
        *_each(regimes, functools.partial(_agreement, reference=summary['reference'])),
        tag('h2', 'Do they use all modalities?'),
        tag('p', USES),
        *_each(regimes, _uses),
        tag('h2', 'Less input, worse input'),
        tag('p', f'{ROBUST} {SEEDS.format(reference=summary["reference"])}'),
        *_each(regimes, functools.partial(_robust, reference=summary['reference'])),
        tag('h2', 'Balance of the modalities'),
        tag('p', BALANCE),
        *_each(regimes, _balance),
        *_losses(regimes),
        *_attribution(regimes),
        tag('h2', 'Tuning'),
        tag('p', TUNING.format(seeds=summary['tuning_seeds'])),
        *_each(regimes, functools.partial(_tuning, selection=summary['selection'])),
        *_figures('Plots, across regimes', across(regimes)),
        *(html for name, arms in regimes.items() for html in _figures(f'Plots, at equal {name}', plots(arms, **drawn))),
    )


def _each(regimes: Mapping[str, Arms], table: Any) -> Iterable[Html]:
    for name, arms in regimes.items():
        yield join(tag('h3', f'At equal {name}'), table(arms))


def _known(references: Mapping[str, float]) -> Iterable[Html]:
    if references:
        yield tag('p', KNOWN)
        yield _table(['reference', 'score'], [[what, _percent(value)] for what, value in references.items()])


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
    rate = f'{entry["rate"]:g}' if 'rate' in entry else ''
    if 'score' not in entry:
        return [arm, *size, 'not done', '', '', '', '', '', rate]
    found = [_percent(entry['score']), f'{_percent(max(0.0, entry["low"]))} to {_percent(min(1.0, entry["high"]))}']
    if entry['diverged']:
        found[0] += f' ({entry["diverged"]} diverged)'
    difference = entry.get('difference')
    if difference is None:
        return [arm, *size, *found, '', '', '', '', rate]
    p = entry['role'].replace('design', 'not declared')
    if 'p_holm' in difference:
        p = f'{"≤ " if difference["p"] <= LEAST_P else ""}{difference["p_holm"]:.3g}'
    if difference['equivalent']:
        p += ', equivalent (unadjusted)'
    of_seeds = f'{difference["p_of_seeds"]:.3g}' if 'p_of_seeds' in difference else ''
    return [arm, *size, *found, *_change(difference), p, of_seeds, rate]


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


def _agreement(arms: Arms, *, reference: str) -> Html:
    rows = []
    for arm, entry in arms.items():
        if 'agreement' in entry:
            name = f'{arm}, another seed' if arm == reference else arm
            cases = ('both', 'arm', 'reference', 'neither')
            rows.append([name, *(_percent(entry['agreement'][case]) for case in cases)])
    return _table(['arm', 'both', 'the arm alone', f'{reference} alone', 'neither'], rows)


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
    each = [f'{what} {m}' for what in ('area without', 'noise on') for m in modalities]
    head = ['arm', 'clean', *(f'without {m}' for m in modalities), 'nothing', *each]
    rows = []
    for arm, entry in arms.items():
        if 'probes' not in entry:
            continue
        clean, *without, nothing = map(
            subset_name, [modalities, *([o for o in modalities if o != m] for m in modalities), []]
        )
        missing = [_percent((entry['probes'][clean] + entry['probes'][left]) / 2) for left in without]
        noise = [entry['noise'].get(m) for m in modalities]
        areas = [f'{_percent(n["area"])}, {n["share"]:.2f} of it' if n else '' for n in noise]
        scores = [_with_spread(entry, name, reference) for name in (clean, *without, nothing)]
        rows.append([arm, *scores, *missing, *areas, f'worst without {entry["worst"]}'])
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


def _losses(regimes: Mapping[str, Arms]) -> Iterable[Html]:
    """Those of arms with several objectives, where there are any."""
    for regime, arms in regimes.items():
        of = {arm: entry['losses'] for arm, entry in arms.items() if entry.get('losses')}
        names = list(dict.fromkeys(name for losses in of.values() for name in losses))
        if names:
            rows = [[arm, *(_plain(losses.get(name), digits=3) for name in names)] for arm, losses in of.items()]
            yield join(tag('p', LOSSES.format(regime=regime)), _table(['arm', *names], rows))


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


def _tuning(arms: Arms, *, selection: str) -> Html:
    rates = sorted({rate for entry in arms.values() for rate in entry.get('tuning', {})}, key=float)
    rows = []
    for arm, entry in arms.items():
        if 'rate' in entry:
            scores = [_percent(entry['tuning'].get(rate)) for rate in rates]
            marks = ['edge'] if entry['rate_on_edge'] else []
            marks += [f'{entry["diverged_in_tuning"]} diverged'] if entry['diverged_in_tuning'] else []
            best, fresh = _percent(entry.get('expected_best')), _percent(entry.get('other', {}).get(selection))
            rows.append([arm, *scores, f'{entry["rate"]:g}', ', '.join(marks), fresh, best])
    return _table(['arm', *rates, 'chosen', '', 'fresh seeds', 'best of 3'], rows)


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
