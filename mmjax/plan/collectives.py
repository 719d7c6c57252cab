"""The collectives of a compiled program: kind, mesh axes, how often, and the bytes that each device sends."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from mmjax.plan.collective_ops import inside, is_repeated, transfer, written
from mmjax.plan.executed import Visit, execution
from mmjax.plan.groups import axes_of, permuted_axes, replica_groups, slice_groups, source_targets
from mmjax.plan.hlo import FUSIONS, Array, Computation, Instruction, Module, elements, size


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction, or several of one kind and axes taken together.

    axes: those of the mesh that its groups span, or ('mixed',). group: devices in one. count: runs in one execution of
    the program, loops included. bytes_out: what a device has afterwards, of all runs. wire_bytes: what a device sends,
    each byte once, however many links it passes on its way (those count in `links`). groups: the devices of each group,
    of a permute each sender with its receiver, by their places in the mesh; empty where several are taken together.
    """

    kind: str
    axes: tuple[str, ...]
    group: int
    count: int
    bytes_out: int
    wire_bytes: int
    network: bool = False
    name: str = ''
    op_name: str = ''
    groups: Int[np.ndarray, 'groups devices'] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 0), int), repr=False, compare=False
    )

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What the figures of it are added up by: its kind and mesh axes, with `network` behind them between slices."""
        return self.kind, (*self.axes, *['network'] * self.network)


def collectives(module: Module, mesh_shape: Mapping[str, int]) -> list[Collective]:
    """All collectives that run, in their order. mesh_shape: sizes of the axes, in the order of `mesh.axis_names`.

    Each counts once: where it starts, if it is asynchronous; those inside fusions too (TPU writes an asynchronous one
    in all fusions that it runs beside). TPU's fusions of an all-reduce with the slice that is kept are reduce-scatters.
    Wire bytes (`wire_bytes`) say nothing of the links between: see `links`. Groups of one device talk to nobody and are
    left out.

    What goes between TPU slices is written as a `send` to the host, and the program numbers the devices of one slice.

    Raises:
        ValueError: where the mesh has not as many devices as the program, or whole slices of as many.
    """
    devices = math.prod(mesh_shape.values())
    if devices % (module.partitions * module.replicas):
        raise ValueError(f'the mesh {dict(mesh_shape)} has {devices} devices, the program {module.partitions}')
    found = []
    for visit in execution(module).visits:
        kind = transfer(visit.instruction)
        if kind is not None:
            found.append(_between_slices(module, kind, visit.instruction, mesh_shape, visit.times))
        for computation, instruction, fusion in _run(module, visit):
            one = _collective(module, computation, instruction, fusion, mesh_shape, visit.times)
            found += [one] if one.group > 1 else []
    return found


def grouped(found: Sequence[Collective]) -> list[Collective]:
    """Those of one kind, axes and group size taken together, the most wire bytes first."""
    totals: dict[tuple, Collective] = {}
    for one in found:
        key = (one.kind, one.axes, one.group, one.network)
        old = totals.get(key, Collective(*key[:3], 0, 0, 0, one.network))
        totals[key] = dataclasses.replace(
            old,
            count=old.count + one.count,
            bytes_out=old.bytes_out + one.bytes_out,
            wire_bytes=old.wire_bytes + one.wire_bytes,
        )
    return sorted(totals.values(), key=lambda total: -total.wire_bytes)


def wire_bytes(kind: str, *, bytes_out: int, bytes_in: int, group: int) -> int:
    """What one of n devices sends in one collective.

    Handed on round a ring: all-gather out x (n-1)/n, reduce-scatter in x (n-1)/n, all-reduce both of them. Sent to each
    receiver itself: all-to-all out x (n-1)/n, permute out; what links further on carry of it is not counted here.
    """
    if kind in ('collective-permute', 'collective-broadcast'):
        return bytes_out
    whole = bytes_in if kind == 'reduce-scatter' else bytes_out
    return (2 if kind == 'all-reduce' else 1) * whole * (group - 1) // group


def _run(module: Module, visit: Visit) -> Iterator[tuple[Computation, Instruction, Instruction | None]]:
    """The collectives that a scheduled instruction runs or starts, with the fusion around each."""
    instruction = visit.instruction
    if instruction.opcode not in FUSIONS:
        yield from inside(module, visit.computation, instruction)
        return
    fused = module.computations[instruction.called('calls')[0]]
    for part in fused:
        for computation, one, fusion in inside(module, fused, part, instruction):
            if not is_repeated(module, fused, part, one):
                yield computation, one, fusion


def _collective(
    module: Module,
    computation: Computation,
    instruction: Instruction,
    fusion: Instruction | None,
    mesh_shape: Mapping[str, int],
    times: int,
) -> Collective:
    kind, out = instruction.opcode.removesuffix('-start'), size(written(instruction))
    if kind == 'collective-permute':
        pairs = source_targets(instruction)
        axes, group = permuted_axes(pairs, mesh_shape), 2 if (pairs[:, 0] != pairs[:, 1]).any() else 1
        groups, into = pairs, out
    else:
        groups = replica_groups(module, instruction)
        axes, group = axes_of(groups, mesh_shape), groups.shape[1]
        into = out * group if kind == 'reduce-scatter' else out
    if kind == 'all-reduce' and fusion is not None and _keeps_a_slice(computation, instruction, fusion, group):
        kind, out, into = 'reduce-scatter', fusion.bytes, out
    sent = wire_bytes(kind, bytes_out=out, bytes_in=into, group=group)
    op_name = (fusion or instruction).op_name or instruction.op_name
    return Collective(kind, axes, group, times, out * times, sent * times, False, instruction.name, op_name, groups)


def _keeps_a_slice(computation: Computation, summed: Instruction, fusion: Instruction, group: int) -> bool:
    """Whether a fusion hands on a device's part of a sum and not all of it, maybe as shorter numbers."""
    if any(user.opcode == 'custom-call' for user in computation.users[summed.name]):  # it only begins
        return False
    whole, kept = elements(written(summed)), elements(fusion.shape)
    return kept * group == whole or (kept < whole and any(part.opcode == 'dynamic-slice' for part in computation))


def _between_slices(
    module: Module, kind: str, send: Instruction, mesh_shape: Mapping[str, int], times: int
) -> Collective:
    groups = slice_groups(send, partitions=module.partitions)
    group = groups.shape[1]
    assert not isinstance(send.shape, Array), 'a send is (what is sent, context, token)'
    sends = size(send.shape[0])
    out = {'all-gather': sends * group, 'reduce-scatter': sends // group}.get(kind, sends)
    sent = wire_bytes(kind, bytes_out=out, bytes_in=sends, group=group)
    axes = axes_of(groups, mesh_shape)
    return Collective(kind, axes, group, times, out * times, sent * times, True, send.name, send.op_name, groups)
