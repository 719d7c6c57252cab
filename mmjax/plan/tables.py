"""The tables of a search and of scaling, for people."""

from collections.abc import Iterator, Mapping
from typing import Any


def search_table(result: Mapping[str, Any]) -> list[str]:
    """A table of what was compiled at the default level, the best first."""
    if 'search/considered' not in result:
        return []
    told = {what: result[f'search/{what}'] for what in ('considered', 'refused', 'pruned', 'compiled', 'cached')}
    rows = []
    for i, row in enumerate(rows_of(result, 'search'), start=1):
        if row['fits']:
            parts = ' + '.join(short(row[f'seconds/{part}']) for part in ('compute', 'attention', 'links'))
            time = f'{short(row["seconds"])} s = {parts}, peak {short(row["peak_gib"])} GiB'
        else:
            time = 'does not fit'
        what = f'{row["what"]} ({row["mesh"]})' if row['what'] == 'as it stands' else row['what']
        rows += [f'  {i}  {what}: {time}', f'     {row["changes"] or "the config as it stands"}']
    return [
        '{considered} candidates: {refused} do not divide, {pruned} put aside by an analytic model, {compiled} '
        'compiled ({cached} of them before)'.format(**told),
        'seconds = compute as the compiler estimates it + attention by a model + links by a model; no overlap is '
        'claimed',
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
        f'  {end} (by a model of them, nothing overlapping)',
    ]


def rows_of(result: Mapping[str, Any], what: str) -> Iterator[dict[str, Any]]:
    """The rows WHAT/1/…, WHAT/2/… of a flat result."""
    i = 1
    while any(key.startswith(f'{what}/{i}/') for key in result):
        yield {k.split('/', 2)[2]: x for k, x in result.items() if k.startswith(f'{what}/{i}/')}
        i += 1


def _size(row: Mapping[str, Any]) -> str:
    head = f'  {row["topology"]}: {row["devices"]:,} devices, {row.get("mesh", "")}'
    if row['fits'] is None:
        return f'{head}: {row["why"]}'
    if not row['fits']:
        return f'{head}: does not fit, needs {row["peak_gib"]:.2f} GiB'
    within = f', {row["within"]:.2f} x the least' if row['within'] else ''
    work = (row['seconds/compute'] or 0) + (row['seconds/attention'] or 0)
    return (
        f'{head}: peak {short(row["peak_gib"])} GiB, sends {short(row["sent_gb"])} GB{within}, '
        f'{short(row["seconds/links"])} s on the links beside {short(work)} s of compute and attention'
    )


def short(value: float) -> str:
    """Two decimals, or where that would be next to nothing three digits."""
    return f'{value:,.2f}' if value >= 0.1 or not value else f'{value:.3g}'
