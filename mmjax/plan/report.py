"""A plan as one HTML file with pictures: memory and time by kind, what a search found, how a step scales."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.plan.parts import MEMORY, SECONDS, rows_of, total, under
from mmjax.plan.told import lines
from mmjax.train.figures import PALETTE, data_uri, labels, legend, new_figure
from mmjax.train.report_html import Html, page, tag

MODELS = ('attention', 'links')  # of SECONDS


def write_report(file: Path, result: Mapping[str, Any], *, title: str) -> None:
    """Writes what `plan`, `search` or `scaling` returned; the file loads nothing from anywhere."""
    told = lines(result)
    pictures = [*_memory(result), *_time(result), *_search(result), *_scaling(result)]
    facts = {name: value for name, value in result.items() if value is not None}
    file.write_text(
        page(
            f'plan of {title}',
            tag('h1', title),
            tag('pre', '\n'.join(told)),
            tag('div', *pictures, class_='wide'),
            tag('h2', 'All figures'),
            tag(
                'div',
                tag(
                    'table',
                    *(tag('tr', tag('th', name), tag('td', _written(value))) for name, value in facts.items()),
                    class_='arms',
                ),
                class_='scroll',
            ),
        )
    )


def _memory(result: Mapping[str, Any]) -> list[Html]:
    if result['fits']:
        sizes = {name: result[key] for name, key in MEMORY.items()} | {'peak': result['peak_gib']}
    else:
        sizes = {'needed': result['need_gib']}
    figure, axes = new_figure()
    axes.bar(list(sizes), list(sizes.values()), color=PALETTE[: len(sizes)], width=0.6)
    axes.axhline(result['limit_gib'], color=PALETTE[4], linewidth=1, label=f'a device has {result["limit_gib"]:.2f}')
    labels(axes, y='GiB')
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    legend(axes, loc='upper right')
    return [_picture('Memory of a device by kind', figure)]


def _time(result: Mapping[str, Any]) -> list[Html]:
    if SECONDS['compute'] not in result:
        return []
    times = _by_kind(result)
    figure, axes = new_figure()
    axes.barh(list(times), list(times.values()), color=PALETTE[0], height=0.6)
    axes.invert_yaxis()  # the first on top
    labels(axes, x='seconds')
    return [_picture('Estimated time of a step by kind; what overlaps is not taken off', figure)]


def _by_kind(result: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of compute by kind of instruction, where a clock is known, and of links by kind of collective."""
    cycles, known = under(result, 'cycles'), result.get('compute_seconds')
    kinds = {kind: known * n / result['cycles'] for kind, n in cycles.items()} if known else {}
    times = kinds or {'roofline': result['roofline_seconds']}
    times |= {'other kernels': result['other_kernel_seconds'], 'attention (model)': result[SECONDS['attention']]}
    links: dict[str, float] = {}
    for name, seconds in under(result, 'collectives').items():
        kind, _, what = name.partition('/')
        if what.endswith('/seconds'):
            links[f'{kind} (model)'] = links.get(f'{kind} (model)', 0.0) + seconds
    times |= links or {'links (model)': result[SECONDS['links']]}
    return {kind: seconds for kind, seconds in times.items() if seconds}


def _search(result: Mapping[str, Any]) -> list[Html]:
    rows = [row for row in rows_of(result, 'search') if row['fits']]
    if not rows:
        return []
    figure, axes = new_figure()
    _stacked(axes, [str(i) for i in range(1, len(rows) + 1)], rows)
    axes.set_ylim(top=1.4 * axes.get_ylim()[1])  # room for the legend
    labels(axes, x='place in the table', y='seconds')
    legend(axes)
    return [_picture('What the search found', figure)]


def _scaling(result: Mapping[str, Any]) -> list[Html]:
    rows = [row for row in rows_of(result, 'scaling') if row['fits']]
    if not rows:
        return []
    devices = [row['devices'] for row in rows]
    rows = [row | {'work': total(row) - row[SECONDS['links']]} for row in rows]  # what the links stand beside
    pictures = []
    curves = {
        'seconds': ({'links (model)': SECONDS['links'], 'compute + attention': 'work'}, 'Time of a step'),
        'GB': ({'sent': 'sent_gb', 'the least': 'bound_gb'}, 'What a device sends'),
        'GiB': ({'peak': 'peak_gib'}, 'Memory of a device'),
    }
    for unit, (names, title) in curves.items():
        figure, axes = new_figure()
        for (name, key), color in zip(names.items(), PALETTE, strict=False):
            axes.plot(devices, [row[key] or 0 for row in rows], color=color, label=name, marker='o', markersize=3)
        axes.set_xscale('log', base=2)
        axes.set_xticks(devices, [f'{n:,}' for n in devices])
        axes.set_ylim(bottom=0)
        labels(axes, x='devices', y=unit)
        legend(axes)
        pictures.append(_picture(f'{title}, the batch of a device kept', figure))
    return pictures


def _stacked(axes: Any, places: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    below = [0.0] * len(rows)
    for (name, key), color in zip(SECONDS.items(), PALETTE, strict=False):
        values, model = [row[key] for row in rows], ' (model)' if name in MODELS else ''
        axes.bar(places, values, bottom=below, color=color, label=f'{name}{model}', width=0.6)
        below = [a + b for a, b in zip(below, values, strict=True)]


def _picture(title: str, figure: Any) -> Html:
    return tag('figure', tag('figcaption', title), tag('img', src=data_uri(figure), alt=title))


def _written(value: Any) -> str:
    return f'{value:.6g}' if isinstance(value, float) else f'{value:,}' if type(value) is int else str(value)
