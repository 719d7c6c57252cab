"""The result of a plan, for people: the verdict first, then what it rests on."""

from collections.abc import Mapping
from typing import Any

from mmjax.plan.tables import scaling_table, search_table, short

COMPILERS = ('jax', 'libtpu', 'jax-cuda13-plugin')


def lines(result: Mapping[str, Any]) -> list[str]:
    """Lines to print of what `plan` returns."""
    axes = {name.removeprefix('mesh/'): size for name, size in result.items() if name.startswith('mesh/')}
    mesh = ' x '.join(f'{axis} {size}' for axis, size in axes.items())
    flops = short(result['model_flops'] / result['devices'] / 1e12)
    rows = {
        'each': _memory(result),
        'mesh': f'{mesh} = {result["devices"]:,} devices',
        'step': f'batch {result["batch_size"]:,}, {result["tokens_per_device"]:,.0f} tokens and {flops} model TFLOP '
        f'a device, {result["parameters"]:,} parameters',
        'time': _time(result),
        'send': _sent(result),
        'sum': _sum(result),
        'note': result.get('remark', ''),
    }
    by = ', '.join(f'{name} {result[name]}' for name in COMPILERS if name in result)
    return [
        *search_table(result),
        f'{_hardware(result)} {_verdict(result)}',
        *(f'  {name:4}  {row}' for name, row in rows.items() if row),
        f'  compiled ahead of time by {by} in {result["compile_seconds"]:.0f} s; nothing of it was measured',
        *scaling_table(result),
    ]


def _hardware(result: Mapping[str, Any]) -> str:
    return f'{result["slices"]} slices of {result["topology"]}:' if result['slices'] > 1 else f'{result["topology"]}:'


def _verdict(result: Mapping[str, Any]) -> str:
    limit = f'{result["limit_gib"]:.2f}'
    if result['fits']:
        return f'fits: peak {short(result["peak_gib"])} of {limit} GiB a device'
    return f'does not fit: needs {result["need_gib"]:.2f} GiB a device, {result["missing_gib"]:.2f} more than {limit}'


def _memory(result: Mapping[str, Any]) -> str:
    parts = {'arguments': 'argument_gib', 'temporaries': 'temp_gib', 'on the host': 'host_gib'}
    told = (f'{what} {short(result[name])}' for what, name in parts.items() if name in result)
    return f'{", ".join(told)} GiB' if result['fits'] else ''


def _time(result: Mapping[str, Any]) -> str:
    if 'cycles' not in result:
        return ''
    told = f'{result["cycles"]:,} cycles' + ('' if 'compute_seconds' in result else ' (its clock is not published)')
    if 'compute_seconds' in result:
        told = f'{short(result["compute_seconds"])} s ({told})'
    told = f'compiler-estimated compute {told}, roofline {short(result["roofline_seconds"])} s'
    if result['kernels']:
        told += f'; {result["kernels"]} attention kernels {short(result["kernel_seconds"])} s by a model'
        told += f' ({result["kernel_fraction"]:.0%} of peak)'
    if result['other_kernels']:
        told += f'; {result["other_kernels"]} other kernels {short(result["other_kernel_seconds"])} s by their bytes'
    if result['unknown_cycles']:
        told += f'; left out: {result["unknown_cycles"]} instructions without an estimate'
    if result['unresolved_loops']:
        told += f'; {result["unresolved_loops"]} loops of unknown length count once'
    return f'{told}; without links, input and what overlaps'


def _sent(result: Mapping[str, Any]) -> str:
    kinds = {name.partition('/')[2]: x for name, x in result.items() if name.startswith('collective_gb/')}
    told = [f'{kind} {short(size)} GB' for kind, size in kinds.items()]
    if 'collective_seconds' in result and told:
        told.append(f'{short(result["collective_seconds"])} s on the links by a model, one after another')
    return ', '.join(told) or ('nothing' if result['fits'] else '')


def _sum(result: Mapping[str, Any]) -> str:
    """Of the three times, and what measured steps took in terms of it."""
    if 'seconds/compute' not in result:
        return ''
    total = sum(result[f'seconds/{part}'] for part in ('compute', 'attention', 'links'))
    name = 'cycles' if 'compute_seconds' in result else 'roofline'
    told = f'{short(total)} s: {name} + attention + links, one after another'
    if 'calibration/factor' not in result:
        return f'{told}; not calibrated by any measured step'
    factor, low, high, cases = (result[f'calibration/{what}'] for what in ('factor', 'low', 'high', 'cases'))
    spread = f'{low:.2f} to {high:.2f} in {cases} cases' if cases > 1 else 'one case, its spread is not known'
    return f'{told}; published steps on hardware took {factor:.2f} times such a sum ({spread})'
