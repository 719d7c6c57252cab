"""`report.html` of a study: one self-contained page of tables, from its summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.train.report_html import Html, join, page, tag

HEAD = ('arm', 'parameters', 'MFLOPs', 'layers', 'MLP ratio', 'score', 'interval', 'difference', 'interval', 'p')
TUNING = (
    'Mean validation score of each learning rate, and the one that was chosen. "Edge": nothing beyond it was tried, so '
    'the arm may be worth more than it shows.'
)


def write_report(summary: Mapping[str, Any], path: Path) -> None:
    """Writes the page."""
    path.write_text(render(summary))


def render(summary: Mapping[str, Any]) -> str:
    """The page as text; the same summary gives the same page."""
    regimes = [_regime(name, arms, summary) for name, arms in summary['regimes'].items()]
    tuning = [_tuning(name, arms) for name, arms in summary['regimes'].items()]
    return page(
        f'Study {summary["study"]}',
        tag('h1', f'Study {summary["study"]}'),
        tag('p', _how(summary), class_='soft'),
        *regimes,
        tag('h2', 'Tuning'),
        tag('p', TUNING),
        *tuning,
    )


def _how(summary: Mapping[str, Any]) -> str:
    return (
        f'{summary["primary"]}, mean over {summary["seeds"]} paired seeds, in percent; MFLOPs are of a training step '
        f'on one example. Intervals: 95 %, bootstrap over seeds and images. Differences are from the arm '
        f'"{summary["reference"]}"; p is adjusted by Holm over {summary["family"]} declared comparisons. A test of '
        f'seeds alone could not go below p = {summary["smallest_p_of_seeds"]:.2g}.'
    )


def _regime(name: str, arms: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any]) -> Html:
    ordered = sorted(arms.items(), key=lambda item: -item[1].get('score', -1))
    rows = [_row(arm, entry) for arm, entry in ordered if entry['matched']]
    outside = [f'{arm} ({entry["gap"]:+.1%})' for arm, entry in arms.items() if not entry['matched']]
    note = f'Left out, as they cannot be matched (gap): {", ".join(outside)}.' if outside else ''
    return join(tag('h2', f'At equal {name}'), _table(HEAD, rows), tag('p', note, class_='soft'))


def _row(arm: str, entry: Mapping[str, Any]) -> list[str]:
    size = [f'{entry["parameters"]:,}', f'{entry["flops"] / 1e6:,.1f}', _plain(entry['depth']), _plain(entry['ratio'])]
    if 'score' not in entry:
        return [arm, *size, 'not done', '', '', '', '']
    found = [_percent(entry['score']), f'{_percent(entry["low"])} to {_percent(entry["high"])}']
    if entry['diverged']:
        found[0] += f' ({entry["diverged"]} diverged)'
    difference = entry.get('difference')
    if difference is None:
        return [arm, *size, *found, '', '', '']
    interval = f'{_percent(difference["low"])} to {_percent(difference["high"])}'
    p = f'{difference["p_holm"]:.3g}' if 'p_holm' in difference else 'not declared'
    if difference['equivalent']:
        p += ', equivalent'
    return [arm, *size, *found, f'{100 * difference["estimate"]:+.2f}', interval, p]


def _tuning(name: str, arms: Mapping[str, Mapping[str, Any]]) -> Html:
    rates = sorted({rate for entry in arms.values() for rate in entry.get('tuning', {})}, key=float)
    rows = []
    for arm, entry in arms.items():
        if 'rate' in entry:
            scores = [_percent(entry['tuning'][rate]) if rate in entry['tuning'] else '' for rate in rates]
            rows.append([arm, *scores, f'{entry["rate"]:g}', 'edge' if entry['rate_on_edge'] else ''])
    return join(tag('h3', f'At equal {name}'), _table(('arm', *rates, 'chosen', ''), rows))


def _table(head: tuple[str, ...], rows: list[list[str]]) -> Html:
    body = [tag('tr', *(tag('td', cell) for cell in row)) for row in rows]
    top = tag('tr', *(tag('th', cell) for cell in head))
    return tag('div', tag('table', tag('thead', top), tag('tbody', *body), class_='arms'), class_='scroll')


def _percent(share: float) -> str:
    return f'{100 * share:.2f}'


def _plain(value: Any) -> str:
    return '' if value is None else f'{value:g}'
