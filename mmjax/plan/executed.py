"""How often each instruction of a compiled program runs: the entry, and what it calls, times the loops around it."""

import dataclasses
from collections.abc import Iterator

from mmjax.plan.hlo import Computation, Instruction, Module


@dataclasses.dataclass(frozen=True)
class Visit:
    """An instruction that is scheduled: in the entry, or in a computation that a loop, a call or a branch runs.

    times: by the trip counts of all loops around it. What is inside a fusion is no visit of its own.
    """

    instruction: Instruction
    computation: Computation
    times: int


@dataclasses.dataclass(frozen=True)
class Execution:
    """unresolved: names of the loops whose trip count the text does not tell: their bodies count once. conditions: how
    many `conditional` there are, each of whose branches counts once, as if all were taken.
    """

    visits: tuple[Visit, ...]
    unresolved: tuple[str, ...]
    conditions: int


def execution(module: Module) -> Execution:
    unresolved: list[str] = []
    visits = tuple(_visit(module, module.entry, 1, unresolved))
    return Execution(visits, tuple(unresolved), sum(visit.instruction.opcode == 'conditional' for visit in visits))


def _visit(module: Module, computation: Computation, times: int, unresolved: list[str]) -> Iterator[Visit]:
    for instruction in computation:
        yield Visit(instruction, computation, times)
        inner, opcode = times, instruction.opcode
        if opcode == 'while':
            trips = trip_count(module, computation, instruction)
            if trips is None:
                unresolved.append(instruction.name)
            names, inner = instruction.called('body'), times * (1 if trips is None else trips)
        elif opcode == 'conditional':
            names = instruction.called('branch_computations', 'true_computation', 'false_computation')
        elif opcode in ('call', 'call-start'):
            names = instruction.called('to_apply', 'calls')
        elif opcode == 'async-start':  # -update and -done name the same computation again
            names = instruction.called('calls')
        else:
            names = ()
        for name in names:
            yield from _visit(module, module.computations[name], inner, unresolved)


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """How often the body of a `while` runs; None where the text does not tell.

    GPU and CPU note `known_trip_count`. TPU does not: there the counter is found in the condition, `counter < limit`,
    its first value in what the loop is given, and its step in what the body returns.
    """
    known = loop.backend_config.get('known_trip_count', {}).get('n')
    if known is not None:
        return int(known)
    condition = module.computations[loop.called('condition')[0]]
    body = module.computations[loop.called('body')[0]]
    test = _Test.of(module, condition, body)
    given = _source(computation, loop.operands[0])
    if test is None or given.opcode != 'tuple' or body.root.opcode != 'tuple':
        return None
    first = _constant(computation, given.operands[test.counter])
    limit = test.limit
    if limit is None:  # it is handed through the loop unchanged
        limit = _constant(computation, given.operands[test.handed]) if _handed(body, test.handed) else None
    step = _step(module, body, body.root.operands[test.counter], test.counter)
    if first is None or limit is None or not step:
        return None
    last = limit + (test.direction == 'LE') - (test.direction == 'GE')
    if (step > 0) != (test.direction in ('LT', 'LE')):
        return None
    return max(0, -((first - last) // step) if step > 0 else -((last - first) // -step))


@dataclasses.dataclass(frozen=True)
class _Test:
    """`element counter of the loop's tuple` `direction` `limit`, or, where that is None, `element handed`."""

    counter: int
    direction: str
    limit: int | None
    handed: int

    @classmethod
    def of(cls, module: Module, condition: Computation, body: Computation) -> '_Test | None':
        root, names = _source(condition, condition.root.name), {}
        if root.opcode == 'fusion':  # the comparison within: its parameters are what the fusion is given
            inner = module.computations[root.called('calls')[0]]
            names = {
                parameter.name: operand for parameter, operand in zip(inner.parameters, root.operands, strict=True)
            }
            root = _source(inner, inner.root.name)
        else:
            inner = condition
        if root.opcode != 'compare':
            return None
        direction, sides = root.attribute('direction') or '', []
        for operand in root.operands:
            at = _source(inner, operand).name
            where, name = (condition, names[at]) if at in names else (inner, at)
            sides.append((_element(where, name), _constant(where, name)))
        first, second = (element for element, _ in sides)
        if first is None or (second is not None and _handed(body, first)):  # limit > counter
            sides, direction = sides[::-1], {'LT': 'GT', 'GT': 'LT', 'LE': 'GE', 'GE': 'LE'}.get(direction, '')
        (counter, _), (handed, limit) = sides
        if counter is None or (limit is None and handed is None) or direction not in ('LT', 'LE', 'GT', 'GE'):
            return None
        return cls(counter, direction, limit, -1 if handed is None else handed)


_SAME = ('copy', 'bitcast', 'reshape', 'convert', 'copy-start', 'copy-done', 'optimization-barrier')


def _source(computation: Computation, name: str) -> Instruction:
    """What a name stands for, behind copies of it."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME and len(instruction.operands) == 1:
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _constant(computation: Computation, name: str) -> int | None:
    source = _source(computation, name)
    if source.opcode == 'get-tuple-element':  # of a tuple that is built here
        whole = _source(computation, source.operands[0])
        return _constant(computation, whole.operands[_index(source)]) if whole.opcode == 'tuple' else None
    literal = source.literal.strip('{} ')
    return int(literal) if source.opcode == 'constant' and literal.lstrip('-').isdigit() else None


def _element(computation: Computation, name: str) -> int | None:
    """Which element of the computation's one tuple a name stands for."""
    source = _source(computation, name)
    if source.opcode != 'get-tuple-element' or _source(computation, source.operands[0]).opcode != 'parameter':
        return None
    return _index(source)


def _handed(body: Computation, element: int) -> bool:
    """Whether the body returns an element of its tuple as it was."""
    return body.root.opcode == 'tuple' and _element(body, body.root.operands[element]) == element


def _index(element: Instruction) -> int:
    return int(element.attribute('index') or 0)


def _step(module: Module, body: Computation, name: str, counter: int) -> int | None:
    """What one turn adds to the counter: `counter + constant`, in the body itself or in a fusion of it."""
    source, given = _source(body, name), {}
    inner = body
    if source.opcode == 'get-tuple-element' and _source(body, source.operands[0]).opcode == 'fusion':
        fusion, which = _source(body, source.operands[0]), _index(source)
    else:
        fusion, which = source, None
    if fusion.opcode == 'fusion':
        inner = module.computations[fusion.called('calls')[0]]
        given = {parameter.name: operand for parameter, operand in zip(inner.parameters, fusion.operands, strict=True)}
        root = inner.root
        source = _source(inner, root.operands[which] if which is not None and root.opcode == 'tuple' else root.name)
    if source.opcode not in ('add', 'subtract') or len(source.operands) != 2:
        return None
    steps, counters = [], []
    for operand in source.operands:
        at = _source(inner, operand).name
        where, at = (body, given[at]) if at in given else (inner, at)
        steps.append(_constant(where, at))
        counters.append(_element(where, at) == counter)
    if counters[0] and steps[1] is not None:
        return steps[1] if source.opcode == 'add' else -steps[1]
    return steps[0] if counters[1] and source.opcode == 'add' else None
