"""Which instructions of a compiled program are collectives, in all the ways that they are written."""

import re

from mmjax.plan.hlo import Array, Computation, Instruction, Module, Shape

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


def is_repeated(module: Module, computation: Computation, instruction: Instruction) -> bool:
    """Whether this is the same collective as one that an AsyncCollectiveStart begins elsewhere."""
    if not is_collective(instruction) or instruction.attribute('channel_id') not in module.begun_channels:
        return False
    users = computation.users[instruction.name]
    return not any(user.attribute('custom_call_target') == 'AsyncCollectiveStart' for user in users)


def written(instruction: Instruction) -> Shape:
    """What an instruction will have written when it is done.

    The shape of an asynchronous start is (operands, outputs, ...), but that of an all-reduce is its output, and that of
    a copy (output, operand, ...).
    """
    shape, opcode = instruction.shape, instruction.opcode
    begins = opcode.endswith('-start') or instruction.attribute('custom_call_target') == 'AsyncCollectiveStart'
    if isinstance(shape, Array) or opcode == 'all-reduce-start' or not begins:
        return shape
    return shape[0] if opcode == 'copy-start' else shape[1]
