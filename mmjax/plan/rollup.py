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
KINDS = ('matmul', 'fusion', 'copy', 'collective', 'other')


@dataclasses.dataclass(frozen=True)
class Work:
    """One instruction, all its runs together.

    kind: of KINDS; what holds a matrix product is `matmul`, whatever else it holds. cycles: of the compiler, None where
    it has no estimate. dot_flops: 2 x multiply-adds of matrix products. bytes: to and from main memory.
    """

    name: str
    kind: str
    times: int
    cycles: int | None
    dot_flops: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class CustomCall:
    """Kernels of one target, JAX name and shapes, wherever their arrays lie. count: runs. bytes: of all runs, to and
    from main memory. flops: of all runs; None where their author has noted none (`pl.CostEstimate`).
    """

    target: str
    op_name: str
    operands: tuple[Array, ...]
    outputs: tuple[Array, ...]
    count: int
    bytes: int
    flops: int | None


@dataclasses.dataclass(frozen=True)
class Rollup:
    """All of one execution of a program, on one device: custom calls, and the work of everything else (and of cuBLAS,
    whose products are in its text).

    unknown: how many runs of instructions the compiler gave the sentinel instead of an estimate. unresolved: loops
    whose trip count the text does not tell: their bodies are counted once. conditions: `conditional` instructions, all
    of whose branches are counted.
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
    def cycles_by_kind(self) -> Mapping[str, int]:
        return {kind: sum(one.cycles or 0 for one in self.work if one.kind == kind) for kind in KINDS}

    def roofline_seconds(self, *, flops_per_second: float, bytes_per_second: float) -> float:
        """Each instruction bounded by its products or by its bytes, whichever takes longer; nothing overlaps.

        Without custom calls and the network. Element-wise work is taken to be bounded by its bytes.
        """
        return sum(max(one.dot_flops / flops_per_second, one.bytes / bytes_per_second) for one in self.work)


def rolled_up(module: Module) -> Rollup:
    """Sums what the compiler notes on each scheduled instruction (`estimated_cycles`, of TPU alone) and what the shapes
    tell, times the trip counts of the loops around it.
    """
    run, work, calls, unknown = execution(module), [], {}, 0
    for visit in run.visits:
        instruction, times = visit.instruction, visit.times
        estimate = instruction.backend_config.get('window_config', {}).get('estimated_cycles')
        known = None if estimate is None or int(estimate) == UNKNOWN_CYCLES else int(estimate) * times
        unknown += times * (estimate is not None and known is None)
        flops, moves = (count(module, visit.computation, instruction) for count in (product_flops, moved))
        if instruction.opcode == 'custom-call':
            call = _custom_call(visit.computation, instruction, flops=flops)
            runs, moved_by = calls.get(call, (0, 0))
            calls[call] = runs + times, moved_by + moves * times
        if known is not None or flops or (moves and instruction.opcode != 'custom-call'):
            kind = _kind(module, visit.computation, instruction, flops=flops)
            work.append(Work(instruction.name, kind, times, known, flops * times, moves * times))
    listed = (
        dataclasses.replace(call, count=runs, bytes=moves, flops=None if call.flops is None else call.flops * runs)
        for call, (runs, moves) in calls.items()
    )
    return Rollup(tuple(work), tuple(listed), unknown, run.unresolved, run.conditions)


def _custom_call(computation: Computation, instruction: Instruction, *, flops: int) -> CustomCall:
    """Of no run yet, but with the FLOPs of one, where its products (flops) or its author tell them."""
    operands = (leaf for name in instruction.operands for leaf in leaves(computation.instructions[name].shape))
    given, made = (tuple(Array(x.dtype, x.dims) for x in side) for side in (operands, leaves(instruction.shape)))
    config = instruction.backend_config.get('custom_call_config')
    noted = config.get('cost_estimate', {}).get('flops') if isinstance(config, dict) else None
    target = instruction.attribute('custom_call_target') or ''
    return CustomCall(target, instruction.op_name, given, made, 0, 0, flops or (None if noted is None else int(noted)))


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
    return 'other'
