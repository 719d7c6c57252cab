"""Which devices talk to one another in a collective, and which mesh axes that is."""

import math
import re
from collections.abc import Mapping

import numpy as np
from einops import rearrange
from jaxtyping import Int

from mmjax.plan.hlo import Instruction, Module

MIXED = ('mixed',)


def replica_groups(module: Module, instruction: Instruction) -> Int[np.ndarray, 'groups devices']:
    """Logical device ids: places in the device assignment, which is `mesh.devices.flat`.

    Written `{{0,1},{2,3}}`, `[2,4]<=[4,2]T(1,0)`, `mesh['x'=2,'y'=4] {'y'}` (with `x:(2)4` for a part of an axis, and
    `device_ids=(...)` where the mesh is not in order), or `{}`: all devices in one group.

    Raises:
        ValueError: on any other spelling.
    """
    devices = module.partitions * module.replicas
    found = re.search(r'(?:^|, )replica_groups=', instruction.text)
    text = instruction.text[found.end() :] if found else '{}'
    if text.startswith('mesh['):
        groups = _of_mesh(text)
    elif text.startswith('['):
        groups = _of_iota(text)
    elif text.startswith('{'):
        inside = instruction.attribute('replica_groups') or ''
        rows = [[int(digits) for digits in row.split(',')] for row in re.findall(r'\{([\d,]+)\}', inside)]
        groups = np.array(rows or [range(devices)])
    else:
        raise ValueError(f'{instruction.name}: replica_groups of an unknown spelling: {text[:80]!r}')
    if instruction.opcode.removesuffix('-start') in ('all-gather', 'all-reduce', 'reduce-scatter'):
        by_id, channel = instruction.attribute('use_global_device_ids'), instruction.attribute('channel_id')
        if by_id != 'true' and channel and module.partitions > 1:  # ids of replicas, with all their partitions
            whole = groups[..., None] * module.partitions + np.arange(module.partitions)
            groups = rearrange(whole, 'g r p -> g (r p)')
    return groups


def _of_iota(text: str) -> Int[np.ndarray, 'groups devices']:
    """`[groups,devices]<=[dims]T(order)`: the ids laid out by `dims`, read in the order of those axes."""
    found = re.match(r'\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
    if found is None:
        raise ValueError(f'replica_groups of an unknown spelling: {text[:80]!r}')
    ids = _iota(_integers(found[3]), _integers(found[4]))
    return rearrange(ids, '(groups devices) -> groups devices', groups=int(found[1]))


def _integers(text: str | None) -> list[int]:
    return [int(digits) for digits in re.findall(r'\d+', text or '')]


def _iota(dims: list[int], order: list[int]) -> Int[np.ndarray, 'devices']:
    ids, names = np.arange(math.prod(dims)), [f'axis{i}' for i in range(len(dims))]
    onward = ' '.join(names[axis] for axis in order or range(len(dims)))
    return rearrange(ids, f'({" ".join(names)}) -> ({onward})', **dict(zip(names, dims, strict=True)))


def _of_mesh(text: str) -> Int[np.ndarray, 'groups devices']:
    """`mesh['x'=4,'y'=2], device_ids=([..]T(..) or 0,2,1,..) {'x':(2)2,'y'}`: x:(before)size is a part of axis x."""
    found = re.match(r'mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}', text)
    if found is None:
        raise ValueError(f'replica_groups of an unknown spelling: {text[:80]!r}')
    axes, listed, within = found.groups()
    sizes = {name: int(size) for name, size in re.findall(r"'?([^,'=]+)'?=(\d+)", axes)}
    if listed is None:
        ids = np.arange(math.prod(sizes.values()))
    elif listed.startswith('['):
        dims, _, order = listed.partition(']')
        ids = _iota(_integers(dims), _integers(order))
    else:
        ids = np.array(_integers(listed))
    # Each axis is cut into three: what is before the part that is named, the part, and what is behind it.
    parts = {name: (before, part) for name, before, part in re.findall(r"'?([^,':]+)'?(?::\((\d+)\)(\d+))?", within)}
    cuts, apart, among = {}, [], []
    for i, (name, size) in enumerate(sizes.items()):
        before, part = (int(digits or 0) for digits in parts.get(name, ('', '')))
        before, part = (before, part) if part else (1, size)
        cuts |= {f'before{i}': before, f'part{i}': part, f'behind{i}': size // (before * part)}
        apart += [f'before{i}', f'behind{i}'] + [f'part{i}'] * (name not in parts)
        among += [f'part{i}'] * (name in parts)
    return rearrange(ids, f'({" ".join(cuts)}) -> ({" ".join(apart)}) ({" ".join(among)})', **cuts)


def source_targets(instruction: Instruction) -> Int[np.ndarray, 'pairs 2']:
    """Of a collective-permute: who sends to whom."""
    numbers = instruction.numbers('source_target_pairs')
    return rearrange(np.array(numbers, int), '(pairs two) -> pairs two', two=2)


def slice_groups(instruction: Instruction, *, partitions: int) -> Int[np.ndarray, 'groups slices']:
    """Of a transfer between slices: the devices that exchange, which are at the same place of their slices.

    Written `{1,2}x{0:3}`: slices 1 and 2, devices 0 to 3 of each; or in groups of ids 100000 x slice + chip,
    `{{100000,200000},..}`, or of pairs of them, `{{100000->200000},..}`. Slices count from 1 there, from 0 in the mesh:
    a program of several slices numbers the devices of its own slice alone, and `mesh.devices.flat` goes by slices.
    """
    found = re.search(r'_xla_megascale_target="?([^"]*?)"?,_xla', instruction.text)
    target = found[1] if found else ''
    if 'x' in target:
        slices = _integers(target.partition('x')[0])
    else:
        ids = _integers(target if '->' in target else target.partition('}')[0])
        slices = sorted({one // 100_000 for one in ids})
    if len(slices) < 2:
        raise ValueError(f'{instruction.name}: a transfer between slices of an unknown spelling: {target[:80]!r}')
    return (np.array(slices) - 1) * partitions + np.arange(partitions)[:, None]


def axes_of(groups: Int[np.ndarray, 'groups devices'], mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which the devices of a group differ, in the order of the mesh.

    Groups that are parts of one axis are said to be of that axis. MIXED where groups are neither that nor whole
    products of axes.
    """
    places = np.stack(np.unravel_index(groups, tuple(mesh_shape.values())))  # [axis, group, device]
    differ = (places != places[:, :, :1]).any((1, 2))
    axes = tuple(axis for axis, yes in zip(mesh_shape, differ, strict=True) if yes)
    whole = groups.shape[1] == math.prod(mesh_shape[axis] for axis in axes)
    distinct = all(len(set(row)) == len(row) for row in groups.tolist())
    return axes if distinct and (whole or len(axes) == 1) else MIXED


def permuted_axes(pairs: Int[np.ndarray, 'pairs 2'], mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which a sender and its receiver differ, for any pair."""
    places = np.stack(np.unravel_index(pairs, tuple(mesh_shape.values())))
    differ = (places[..., 0] != places[..., 1]).any(1)
    return tuple(axis for axis, yes in zip(mesh_shape, differ, strict=True) if yes)
