"""Bytes that an instruction of a compiled program moves to and from the device's main memory: the roofline's term."""

from mmjax.plan.collective_ops import is_collective, is_repeated, written
from mmjax.plan.hlo import FUSIONS, HBM, Computation, Instruction, Module, Shape, leaves

# What is a name for memory, or moves nothing itself.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call', 'after-all'}
_FREE |= {'partition-id', 'replica-id', 'opt-barrier', 'async-update', 'add-dependency'}
_FREE_CALLS = {'AllocateBuffer', 'ConcatBitcast', 'AsyncCollectiveStart', 'AsyncCollectiveDone'}


def moved(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Bytes of the operands and of the output that lie in main memory (TPU keeps some on the chip: those are free).

    Of a slice, a gather, or an update in place: of the part alone, inside a fusion too; otherwise each turn of a loop
    over stacked layers would move them all. A collective counts where it starts, by what it reads and writes.
    """
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith('-done'):
        return 0
    if opcode == 'custom-call' and instruction.attribute('custom_call_target') in _FREE_CALLS:
        return 0
    if opcode in FUSIONS:
        inner = module.computations[instruction.called('calls')[0]]
        reads = sum(_read(module, inner, parameter) for parameter in inner.parameters)
        return reads + _written(module, inner, inner.root)
    reads = sum(
        _read_by(module, computation, computation.instructions[name], instruction)
        for name in dict.fromkeys(instruction.operands)
    )
    return reads + (
        _hbm(written(instruction)) if opcode.endswith('-start') else _written(module, computation, instruction)
    )


def _hbm(shape: Shape) -> int:
    return sum(leaf.bytes for leaf in leaves(shape) if leaf.space == HBM)


def _read(module: Module, computation: Computation, source: Instruction) -> int:
    """By all that use a value within a fusion; never more than the whole of it."""
    users = computation.users[source.name]
    return min(_hbm(source.shape), sum(_read_by(module, computation, source, user) for user in users))


def _read_by(module: Module, computation: Computation, source: Instruction, user: Instruction) -> int:
    opcode, whole = user.opcode, _hbm(source.shape)
    if not whole or opcode == 'tuple':
        return 0
    if opcode in ('dynamic-slice', 'slice', 'gather') and user.operands[0] == source.name:
        return min(whole, sum(leaf.bytes for leaf in leaves(user.shape)))
    if opcode in ('dynamic-update-slice', 'scatter') and user.operands[0] == source.name:
        return 0
    if opcode in ('bitcast', 'get-tuple-element') and not user.root:
        return min(whole, _read(module, computation, user) if _hbm(user.shape) else whole)
    if opcode == 'custom-call' and user.attribute('custom_call_target') in _FREE_CALLS:
        return 0
    if opcode == 'fusion':
        inner = module.computations[user.called('calls')[0]]
        pairs = zip(inner.parameters, user.operands, strict=True)
        return min(whole, sum(_read(module, inner, parameter) for parameter, name in pairs if name == source.name))
    return 0 if is_collective(user) and is_repeated(module, computation, user, user) else whole


def _written(module: Module, computation: Computation, root: Instruction) -> int:
    opcode = root.opcode
    if opcode == 'parameter':  # handed through
        return 0
    if opcode == 'tuple':
        return sum(_written(module, computation, computation.instructions[name]) for name in root.operands)
    if opcode == 'dynamic-update-slice':
        update = computation.instructions[root.operands[1]].shape
        return sum(leaf.bytes for leaf in leaves(update)) if _hbm(root.shape) else 0
    if opcode == 'bitcast':
        source = computation.instructions[root.operands[0]]
        return _written(module, computation, source) if _hbm(root.shape) else 0
    if opcode == 'custom-call' and root.attribute('custom_call_target') == 'AsyncCollectiveStart':
        return _hbm(written(root))
    if opcode == 'custom-call' and root.attribute('custom_call_target') in _FREE_CALLS:
        return 0
    if opcode == 'fusion':
        inner = module.computations[root.called('calls')[0]]
        return _written(module, inner, inner.root) if _hbm(root.shape) else 0
    return 0 if is_collective(root) and is_repeated(module, computation, root, root) else _hbm(root.shape)
