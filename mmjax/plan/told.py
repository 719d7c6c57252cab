"""The result of a plan, for people: the verdict first, then what it rests on."""

from collections.abc import Mapping
from typing import Any


def lines(result: Mapping[str, Any]) -> list[str]:
    """Lines to print of what `plan` returns."""
    axes = {name.removeprefix('mesh/'): size for name, size in result.items() if name.startswith('mesh/')}
    mesh = ' x '.join(f'{axis} {size}' for axis, size in axes.items())
    flops = _short(result['model_flops'] / result['devices'] / 1e12)
    rows = {
        'each': _memory(result),
        'mesh': f'{mesh} = {result["devices"]:,} devices',
        'step': f'batch {result["batch_size"]:,}, {result["tokens_per_device"]:,.0f} tokens and {flops} model TFLOP '
        f'a device, {result["parameters"]:,} parameters',
        'note': result.get('remark', ''),
    }
    by = ', '.join(f'{name} {result[name]}' for name in ('jax', 'libtpu') if name in result)
    return [
        f'{_hardware(result)} {_verdict(result)}',
        *(f'  {name}  {row}' for name, row in rows.items() if row),
        f'  compiled ahead of time by {by} in {result["compile_seconds"]:.0f} s; nothing of it was measured',
    ]


def _hardware(result: Mapping[str, Any]) -> str:
    return f'{result["slices"]} slices of {result["topology"]}:' if result['slices'] > 1 else f'{result["topology"]}:'


def _verdict(result: Mapping[str, Any]) -> str:
    limit = f'{result["limit_gib"]:.2f}'
    if result['fits']:
        return f'fits: peak {_short(result["peak_gib"])} of {limit} GiB a device'
    return f'does not fit: needs {result["need_gib"]:.2f} GiB a device, {result["missing_gib"]:.2f} more than {limit}'


def _memory(result: Mapping[str, Any]) -> str:
    parts = {'arguments': 'argument_gib', 'temporaries': 'temp_gib', 'on the host': 'host_gib'}
    told = (f'{what} {_short(result[name])}' for what, name in parts.items() if name in result)
    return f'{", ".join(told)} GiB' if result['fits'] else ''


def _short(value: float) -> str:
    """Two decimals, or where that would be next to nothing three digits."""
    return f'{value:,.2f}' if value >= 0.1 or not value else f'{value:.3g}'
