"""Which instructions of a compiled program are collectives, in all the ways that they are written."""

import functools
import re
from collections.abc import Iterator
from typing import Any

from mmjax.plan.hlo import FUSIONS, Array, Computation, Instruction, Module, Shape, leaves

KINDS = (
    'all-gather',
    'all-reduce',
    'reduce-scatter',
    'all-to-all',
    'ragged-all-to-all',
    'collective-permute',
    'collective-broadcast',
)


def is_collective(instruction: Instruction) -> bool:
    """Whether a collective runs or starts here; where it ends does not count."""
    return instruction.opcode.removesuffix('-start') in KINDS


# What the runtime of several TPU slices calls them.
TRANSFERS = {
    'ALL_GATHER': 'all-gather',
    'ALL_REDUCE': 'all-reduce',
    'REDUCE_SCATTER': 'reduce-scatter',
    'ALL_TO_ALL': 'all-to-all',
    'ONE_TO_ONE': 'collective-permute',
}


def transfer(instruction: Instruction) -> str | None:
    """The kind of a collective between TPU slices, over the network: it is written as a `send` to the host.

    Raises:
        ValueError: on a kind that is not known.
    """
    found = (
        re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.text) if instruction.opcode == 'send' else None
    )
    if found is None:
        return None
    if found[1] not in TRANSFERS:
        raise ValueError(f'{instruction.name}: a transfer between slices of an unknown kind: {found[1]}')
    return TRANSFERS[found[1]]


def inside(
    module: Module, computation: Computation, instruction: Instruction, fusion: Instruction | None = None
) -> Iterator[tuple[Computation, Instruction, Instruction | None]]:
    """The instruction itself if it is a collective, those in it if it is a fusion: each with its computation and the
    fusion right around it.
    """
    if is_collective(instruction):
        yield computation, instruction, fusion
    elif instruction.opcode in FUSIONS:
        inner = module.computations[instruction.called('calls')[0]]
        for part in inner:
            yield from inside(module, inner, part, instruction)


def is_repeated(module: Module, computation: Computation, part: Instruction, collective: Instruction) -> bool:
    """Whether a collective that is `part` of a fusion, or is in it, is the same as one begun in another fusion.

    TPU begins an asynchronous one in a fusion, by an AsyncCollectiveStart, and writes it again in each fusion that it
    runs beside, which hands it on, and where it ends, before an AsyncCollectiveDone. Channels are not told apart: JAX
    gives many collectives the same one.
    """
    if computation.name not in module.fused or _key(computation, part, collective) not in _begun(module):
        return False
    users = computation.users[part.name]
    return all(user.opcode == 'tuple' or _target(user) == 'AsyncCollectiveDone' for user in users)


@functools.lru_cache(maxsize=1)
def _begun(module: Module) -> frozenset[tuple[Any, ...]]:
    found = set()
    for computation in module.computations.values():
        for call in computation:
            if _target(call) == 'AsyncCollectiveStart':
                for part in (computation.instructions[name] for name in call.operands):
                    found |= {_key(computation, part, one) for _, one, _ in inside(module, computation, part)}
    return frozenset(found)


def _key(computation: Computation, part: Instruction, collective: Instruction) -> tuple[Any, ...]:
    given = [computation.instructions[name] for name in part.operands]
    dims = tuple((leaf.dtype, leaf.dims) for one in given for leaf in leaves(one.shape))
    groups = re.search(r'replica_groups=(mesh\[.*?\} ?|\S+)', collective.text)
    return collective.opcode, collective.attribute('channel_id'), groups and groups[1], dims


def _target(instruction: Instruction) -> str | None:
    return instruction.attribute('custom_call_target') if instruction.opcode == 'custom-call' else None


def written(instruction: Instruction) -> Shape:
    """What an instruction will have written when it is done.

    The shape of an asynchronous start is (operands, outputs, ...), but that of an all-reduce is its output, and that of
    a copy (output, operand, ...).
    """
    shape, opcode = instruction.shape, instruction.opcode
    begins = opcode.endswith('-start') or _target(instruction) == 'AsyncCollectiveStart'
    if isinstance(shape, Array) or opcode == 'all-reduce-start' or not begins:
        return shape
    return shape[0] if opcode == 'copy-start' else shape[1]
