"""The tables of a search and of scaling, for people."""

from collections.abc import Mapping
from typing import Any

from mmjax.plan.parts import SECONDS, rows_of, total, under


def search_table(result: Mapping[str, Any]) -> list[str]:
    """A table of what was compiled at the default level, the best first."""
    if 'search/considered' not in result:
        return []
    told = {what: result[f'search/{what}'] for what in ('considered', 'refused', 'pruned', 'compiled', 'cached')}
    rows = []
    for i, row in enumerate(rows_of(result, 'search'), start=1):
        if row['fits']:
            parts = ' + '.join(short(row[part]) for part in SECONDS.values())
            rate = f'{short(row["batch_size"] / row["seconds"])} examples/s'
            time = f'{short(row["seconds"])} s = {parts}, {rate}, peak {short(row["peak_gib"])} GiB'
        else:
            time = 'does not fit'
        what = f'{row["what"]} ({row["mesh"]})' if row['what'] == 'as it stands' else row['what']
        rows += [f'  {i}  {what}: {time}', f'     {row["changes"] or "the config as it stands"}']
    return [
        '{considered} candidates: {refused} do not divide, {pruned} put aside by an analytic model, {compiled} '
        'compiled ({cached} of them before)'.format(**told),
        'seconds = compute as the compiler estimates it + attention by a model + links by a model; no overlap is '
        f'claimed; {calibrated(result)}',
        *rows,
        'of the first:',
    ]


def scaling_table(result: Mapping[str, Any]) -> list[str]:
    """A row for each size, and where the links become the limit."""
    if 'scaling/base' not in result:
        return []
    rows = [_size(row) for row in rows_of(result, 'scaling')]
    at = result['scaling/limit_devices']
    end = f'the links become the limit at {at:,} devices' if at else 'the links are not the limit at any of these sizes'
    return [
        f'scaling, the batch of a device kept; compute from one compile at {result["scaling/base"]}, memory and bytes '
        'of one at each size at the lowest level:',
        *rows,
        f'  {end} (by a model of them, nothing overlapping; {calibrated(result)})',
    ]


def calibrated(result: Mapping[str, Any]) -> str:
    """What measured steps took in terms of such a sum of times, and which steps these were."""
    known = under(result, 'calibration')
    if not known:
        return 'not calibrated by any measured step'
    spread = f'{known["low"]:.2f} to {known["high"]:.2f}' if known['cases'] > 1 else 'one case'
    kind = result['topology'].partition(':')[0]
    other = '' if f' {kind}:' in known['of'] else f'; none of them on {kind}'
    return f'published steps on hardware took {known["factor"]:.2f} times such a sum ({spread}: {known["of"]}{other})'


def _size(row: Mapping[str, Any]) -> str:
    head = f'  {row["topology"]}: {row["devices"]:,} devices, {row.get("mesh", "")}'
    if row['fits'] is None:
        return f'{head}: {row["why"]}'
    if not row['fits']:
        return f'{head}: does not fit, needs {row["peak_gib"]:.2f} GiB'
    within = f', {row["within"]:.2f} x the least' if row['within'] else ''
    links = row[SECONDS['links']]
    work = total(row) - links
    return (
        f'{head}: peak {short(row["peak_gib"])} GiB, sends {short(row["sent_gb"])} GB{within}, '
        f'{short(links)} s on the links beside {short(work)} s of compute and attention'
    )


def short(value: int | float) -> str:
    """Two decimals, or where that would be next to nothing three digits."""
    return f'{value:,.2f}' if value >= 0.1 or not value else f'{value:.3g}'
