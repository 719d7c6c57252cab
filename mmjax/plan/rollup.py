"""A compiled program rolled up with its loops: the compiler's cycles, FLOPs and bytes, and what it does not count."""

import dataclasses
import functools
from collections.abc import Mapping

from mmjax.plan.collective_ops import inside, transfer
from mmjax.plan.executed import execution
from mmjax.plan.hlo import FUSIONS, Array, Computation, Instruction, Module, leaves
from mmjax.plan.products import product_flops
from mmjax.plan.traffic import moved

UNKNOWN_CYCLES = 2**63 - 1  # what the TPU compiler writes where it has no estimate
KINDS = ('matmul', 'fusion', 'copy', 'collective', 'custom-call', 'other')


@dataclasses.dataclass(frozen=True)
class Work:
    """One instruction, all its runs together.

    kind: of KINDS; what holds a matrix product is `matmul`, whatever else it holds. cycles: of the compiler, None where
    it has no estimate. dot_flops: 2 x multiply-adds of matrix products. bytes: to and from main memory.
    """

    name: str
    kind: str
    op_name: str
    times: int
    cycles: int | None
    dot_flops: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class CustomCall:
    """Kernels of one target, JAX name and shapes. count: runs. bytes: of all runs, to and from main memory."""

    target: str
    op_name: str
    operands: tuple[Array, ...]
    outputs: tuple[Array, ...]
    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Rollup:
    """All of one execution of a program, on one device.

    unknown: how many runs of instructions the compiler gave the sentinel instead of an estimate. unresolved: loops
    whose trip count the text does not tell: their bodies are counted once. conditions: `conditional` instructions, all
    of whose branches are counted. custom_calls: none of them has cycles; dot_flops has those of cuBLAS alone.
    """

    work: tuple[Work, ...]
    custom_calls: tuple[CustomCall, ...]
    unknown: int
    unresolved: tuple[str, ...]
    conditions: int

    @functools.cached_property
    def cycles(self) -> int:
        return sum(one.cycles or 0 for one in self.work)

    @functools.cached_property
    def dot_flops(self) -> int:
        return sum(one.dot_flops for one in self.work)

    @functools.cached_property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.work)

    @functools.cached_property
    def cycles_by_kind(self) -> Mapping[str, int]:
        return {kind: sum(one.cycles or 0 for one in self.work if one.kind == kind) for kind in KINDS}

    def roofline_seconds(self, *, flops_per_second: float, bytes_per_second: float) -> float:
        """Each instruction bounded by its products or by its bytes, whichever takes longer; nothing overlaps.

        Leaves out what custom calls compute, and the network. Element-wise work is taken to be bounded by its bytes.
        """
        return sum(max(one.dot_flops / flops_per_second, one.bytes / bytes_per_second) for one in self.work)


def cycles(module: Module) -> Rollup:
    """Sums what the compiler notes on each scheduled instruction (`estimated_cycles`, of TPU alone) and what the shapes
    tell, times the trip counts of the loops around it.
    """
    run, work, calls, unknown = execution(module), [], {}, 0
    for visit in run.visits:
        instruction, times = visit.instruction, visit.times
        estimate = instruction.backend_config.get('window_config', {}).get('estimated_cycles')
        known = None if estimate is None or int(estimate) == UNKNOWN_CYCLES else int(estimate) * times
        unknown += times * (estimate is not None and known is None)
        flops = product_flops(module, visit.computation, instruction) * times
        moves = moved(module, visit.computation, instruction) * times
        if instruction.opcode == 'custom-call':
            operands = tuple(
                leaf for name in instruction.operands for leaf in leaves(visit.computation.instructions[name].shape)
            )
            target = instruction.attribute('custom_call_target') or ''
            key = CustomCall(target, instruction.op_name, operands, tuple(leaves(instruction.shape)), 0, 0)
            count, held = calls.get(key, (0, 0))
            calls[key] = (count + times, held + moves)
        if known is not None or flops or moves:
            kind = _kind(module, visit.computation, instruction, flops=flops)
            work.append(Work(instruction.name, kind, instruction.op_name, times, known, flops, moves))
    listed = tuple(dataclasses.replace(one, count=count, bytes=held) for one, (count, held) in calls.items())
    return Rollup(tuple(work), listed, unknown, run.unresolved, run.conditions)


def _kind(module: Module, computation: Computation, instruction: Instruction, *, flops: int) -> str:
    opcode = instruction.opcode
    if flops:
        return 'matmul'
    if transfer(instruction) or any(inside(module, computation, instruction)):
        return 'collective'
    if opcode in FUSIONS:
        return 'fusion'
    if opcode.removesuffix('-start') in ('copy', 'slice', 'transpose'):
        return 'copy'
    return 'custom-call' if opcode == 'custom-call' else 'other'
