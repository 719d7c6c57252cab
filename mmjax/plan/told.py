"""The result of a plan, for people: the verdict first, then what it rests on."""

from collections.abc import Mapping
from typing import Any

from mmjax.plan.parts import COMPILERS, MEMORY, SECONDS, total, under
from mmjax.plan.tables import calibrated, scaling_table, search_table, short
from mmjax.sharding.candidates import written

GAPS = 1.05  # from where on what a program takes is told beside its peak
SENT = 6  # lines of collectives


def lines(result: Mapping[str, Any]) -> list[str]:
    """Lines to print of what `plan` returns."""
    flops = short(result['model_flops'] / result['devices'] / 1e12)
    rows = {
        'each': _memory(result),
        'mesh': f'{written(under(result, "mesh"))}: {result["devices"]:,} devices',
        'step': f'batch {result["batch_size"]:,}, {result["tokens_per_device"]:,.0f} tokens and {flops} model TFLOP '
        f'a device, {result["parameters"]:,} parameters',
        'time': _time(result),
        'send': _sent(result),
        'link': result.get('links/model', ''),
        'sum': _sum(result),
        'note': result.get('remark', ''),
    }
    by = ', '.join(f'{name} {result[name]}' for name in ('jax', *COMPILERS.values()) if name in result)
    options = ', '.join(f'{name}={value}' for name, value in under(result, 'compiler_options').items())
    told = f'by {by}{f" with {options}" if options else ""} in {result["compile_seconds"]:.0f} s'
    return [
        *search_table(result),
        f'{_hardware(result)} {_verdict(result)}',
        *(f'  {name:4}  {row}' for name, row in rows.items() if row),
        f'  compiled ahead of time {told}; nothing of it was measured',
        *scaling_table(result),
    ]


def _hardware(result: Mapping[str, Any]) -> str:
    return f'{result["slices"]} slices of {result["topology"]}:' if result['slices'] > 1 else f'{result["topology"]}:'


def _verdict(result: Mapping[str, Any]) -> str:
    limit = f'{result["limit_gib"]:.2f}'
    if not result['fits']:
        return (
            f'does not fit: needs {result["need_gib"]:.2f} GiB a device, {result["missing_gib"]:.2f} more than {limit}'
        )
    peak, held = result['peak_gib'], result['held_gib']
    gaps = f'; takes {short(held)} with the gaps between its buffers' if held > GAPS * peak else ''
    return f'fits: peak {short(peak)} of {limit} GiB a device{gaps}'


def _memory(result: Mapping[str, Any]) -> str:
    told = ', '.join(f'{what} {short(result[name])}' for what, name in MEMORY.items() if name in result)
    return f'{told} GiB' if result['fits'] else ''


def _time(result: Mapping[str, Any]) -> str:
    if 'cycles' not in result:
        return ''
    told = f'{result["cycles"]:,} cycles' + ('' if 'compute_seconds' in result else ' (its clock is not published)')
    if 'compute_seconds' in result:
        told = f'{short(result["compute_seconds"])} s ({told})'
    told = [f'compiler-estimated compute {told}, roofline {short(result["roofline_seconds"])} s']
    if result['kernels']:
        share = result['kernel_share']
        pairs = 'every query with every key' if share == 1 else f'{share:.0%} of all pairs of a query and a key'
        pairs += ' on the device that reads most' if result['mesh/sequence'] > 1 and share < 1 else ''
        told.append(
            f'{result["kernels"]} attention kernels {short(result[SECONDS["attention"]])} s by a model '
            f'({result["kernel_fraction"]:.0%} of peak, {pairs})'
        )
    if result['other_kernels']:
        unknown = result['other_kernels_without_flops']
        by = f'their FLOPs and bytes ({unknown} by their bytes alone)' if unknown else 'their FLOPs and bytes'
        told.append(f'{result["other_kernels"]} other kernels {short(result["other_kernel_seconds"])} s by {by}')
    left = {
        'unrecognised_kernels': '{} kernels are called attention and not recognised: not by the model of attention',
        'unknown_cycles': 'left out: {} instructions without an estimate',
        'unresolved_loops': '{} loops of unknown length count once',
        'conditionals': 'all branches of {} conditionals count',
    }
    told += [what.format(result[name]) for name, what in left.items() if result[name]]
    return f'{"; ".join(told)}; without links, input{_host(result)} and what overlaps'


def _host(result: Mapping[str, Any]) -> str:
    """What a time leaves out where buffers lie on the host."""
    return ', traffic to the host' if result['host_gib'] else ''


def _sent(result: Mapping[str, Any]) -> str:
    """All of it, and the largest by kind and mesh axes."""
    kinds: dict[str, dict[str, float]] = {}
    for name, value in under(result, 'collectives').items():
        kind, _, what = name.rpartition('/')
        kinds.setdefault(kind, {})[what] = value
    if not kinds:
        return 'nothing' if result['fits'] else ''
    told = [f'{short(sum(one["wire_gb"] for one in kinds.values()))} GB']
    if SECONDS['links'] in result:
        told[0] += f', {short(result[SECONDS["links"]])} s on the links by a model, one after another'
    ranked = sorted(kinds.items(), key=lambda item: (item[1].get('seconds', 0), item[1]['wire_gb']), reverse=True)
    for name, one in ranked[:SENT]:
        kind, _, axes = name.partition('/')
        seconds = f', {short(one["seconds"])} s' if 'seconds' in one else ''
        told.append(f'{kind} over {axes.replace("+", " and ")}: {one["count"]:,}, {short(one["wire_gb"])} GB{seconds}')
    if ranked[SENT:]:
        told.append(f'{len(ranked) - SENT} more: {short(sum(one["wire_gb"] for _, one in ranked[SENT:]))} GB')
    return '\n        '.join(told)


def _sum(result: Mapping[str, Any]) -> str:
    """Of the three times, and what measured steps took in terms of it."""
    if SECONDS['compute'] not in result:
        return ''
    parts = ['cycles' if 'compute_seconds' in result else 'roofline', 'other kernels', 'attention', 'links']
    for name, count in {'other kernels': 'other_kernels', 'attention': 'kernels'}.items():
        if not result[count]:
            parts.remove(name)
    host = '; traffic to the host is not counted' if result['host_gib'] else ''
    return f'{short(total(result))} s: {" + ".join(parts)}, one after another{host}; {calibrated(result)}'
