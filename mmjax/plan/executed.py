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


@dataclasses.dataclass(frozen=True)
class Frame:
    """A computation and, where a loop or a call runs it, that instruction and its own frame."""

    computation: Computation
    call: Instruction | None = None
    outer: 'Frame | None' = None


def execution(module: Module) -> Execution:
    unresolved: list[str] = []
    visits = tuple(_visit(module, Frame(module.entry), 1, unresolved))
    return Execution(visits, tuple(unresolved), sum(visit.instruction.opcode == 'conditional' for visit in visits))


def _visit(module: Module, frame: Frame, times: int, unresolved: list[str]) -> Iterator[Visit]:
    for instruction in frame.computation:
        yield Visit(instruction, frame.computation, times)
        inner, opcode, known = times, instruction.opcode, True
        if opcode == 'while':
            trips = trip_count(module, frame, instruction)
            if trips is None:
                unresolved.append(instruction.name)
            names, inner = instruction.called('body'), times * (1 if trips is None else trips)
        elif opcode == 'conditional':
            names = instruction.called('branch_computations', 'true_computation', 'false_computation')
            known = False  # each branch is given an operand of its own
        elif opcode == 'call':
            names = instruction.called('to_apply', 'calls')
        elif opcode == 'async-start':  # -update and -done name the same computation again
            names = instruction.called('calls')
        elif opcode in ('call-start', 'custom-call-start'):  # on another core of the chip, as the all-reduces of tpu7x
            names = instruction.called('to_apply', 'calls', 'called_computations')
        else:
            names = ()
        for name in names:
            called = module.computations[name]
            within = Frame(called, instruction, frame) if known else Frame(called)
            yield from _visit(module, within, inner, unresolved)


def trip_count(module: Module, frame: Frame, loop: Instruction) -> int | None:
    """How often the body of a `while` runs; None where the text does not tell.

    GPU and CPU note `known_trip_count`. TPU does not: there the counter is found in the condition, `counter < limit`,
    its first value in what the loop is given, and its step in what the body returns.
    """
    noted = loop.backend_config.get('known_trip_count', {}).get('n')
    if noted is not None:
        return int(noted)
    body = Frame(module.computations[loop.called('body')[0]], loop, frame)
    if body.computation.root.opcode != 'tuple':
        return None
    test = _Test.of(module, module.computations[loop.called('condition')[0]], body.computation)
    if test is None:
        return None
    first, limit = _constant(frame, loop.operands[0], test.counter), test.limit
    if limit is None and _handed(body.computation, test.handed):
        limit = _constant(frame, loop.operands[0], test.handed)
    step = _step(module, body, test.counter)
    if first is None or limit is None or not step or (step > 0) != (test.direction in ('LT', 'LE')):
        return None
    last = limit + (test.direction == 'LE') - (test.direction == 'GE')
    return len(range(first, last, step))


@dataclasses.dataclass(frozen=True)
class _Test:
    """`element counter of the loop's tuple` `direction` `limit`, or, where that is None, `element handed`."""

    counter: int
    direction: str
    limit: int | None
    handed: int

    @classmethod
    def of(cls, module: Module, condition: Computation, body: Computation) -> '_Test | None':
        root, inner, names = _source(condition, condition.root.name), condition, {}
        if root.opcode == 'fusion':
            inner, names = _opened(module, root)
            root = _source(inner, inner.root.name)
        if root.opcode != 'compare':
            return None
        direction, sides = root.attribute('direction') or '', []
        for operand in root.operands:
            at = _source(inner, operand).name
            where, name = (condition, names[at]) if at in names else (inner, at)
            sides.append((_element(where, name), _constant(Frame(where), name)))
        first, second = (element for element, _ in sides)
        if first is None or (second is not None and _handed(body, first)):  # limit > counter
            sides, direction = sides[::-1], {'LT': 'GT', 'GT': 'LT', 'LE': 'GE', 'GE': 'LE'}.get(direction, '')
        (counter, _), (handed, limit) = sides
        if counter is None or (limit is None and handed is None) or direction not in ('LT', 'LE', 'GT', 'GE'):
            return None
        return cls(counter, direction, limit, -1 if handed is None else handed)


_SAME = ('copy', 'bitcast', 'reshape', 'convert', 'copy-start', 'copy-done', 'opt-barrier')


def _source(computation: Computation, name: str) -> Instruction:
    """What a name stands for, behind copies of it."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME and len(instruction.operands) == 1:
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _constant(frame: Frame, name: str, element: int | None = None) -> int | None:
    """The number that a name stands for, or that element of it: also where loops and calls around hand it in."""
    source = _source(frame.computation, name)
    if source.opcode == 'get-tuple-element' and element is None:
        return _constant(frame, source.operands[0], _index(source))
    if source.opcode == 'tuple' and element is not None:
        return _constant(frame, source.operands[element])
    if source.opcode == 'parameter' and frame.call is not None and frame.outer is not None:
        if frame.call.opcode == 'while' and (element is None or not _handed(frame.computation, element)):
            return None  # another one each turn
        return _constant(frame.outer, frame.call.operands[int(source.literal)], element)
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


def _opened(module: Module, fusion: Instruction) -> tuple[Computation, dict[str, str]]:
    """The inside of a fusion, and what each of its parameters is outside."""
    inner = module.computations[fusion.called('calls')[0]]
    return inner, dict(zip((parameter.name for parameter in inner.parameters), fusion.operands, strict=True))


def _step(module: Module, body: Frame, counter: int) -> int | None:
    """What one turn adds to the counter: `counter + constant`, in the body itself or in a fusion of it."""
    outside, given, which = body.computation, {}, None
    source = _source(outside, outside.root.operands[counter])
    if source.opcode == 'get-tuple-element':  # of a fusion with several outputs
        source, which = _source(outside, source.operands[0]), _index(source)
    inner = outside
    if source.opcode == 'fusion':
        inner, given = _opened(module, source)
        root = inner.root
        source = _source(inner, root.operands[which] if which is not None and root.opcode == 'tuple' else root.name)
    if source.opcode not in ('add', 'subtract') or len(source.operands) != 2:
        return None
    steps, counters = [], []
    for operand in source.operands:
        at = _source(inner, operand).name
        where, at = (body, given[at]) if at in given else (Frame(inner) if given else body, at)
        steps.append(_constant(where, at))
        counters.append(_element(where.computation, at) == counter)
    if counters[0] and steps[1] is not None:
        return steps[1] if source.opcode == 'add' else -steps[1]
    return steps[0] if counters[1] and source.opcode == 'add' else None
