"""The text of a compiled program, `compiled.as_text()`, as computations of instructions: of TPU, GPU and CPU.

The grammar is that of XLA's HLO text (openxla.org/xla/hlo_text_syntax, and what jax 0.10 and 0.12 print). Read lazily:
a line is cut into name, shape, opcode, operands and the rest; the rest is looked into only when it is asked for.
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

HBM = 0  # the memory that a layout does not name; `S(1)` and on are on the chip, `S(5)` is the host's
FUSIONS = ('fusion', 'fusion-start')  # GPU starts some of them asynchronously


@dataclasses.dataclass(frozen=True)
class Array:
    """dtype as XLA writes it (`bf16`); dims; space: the memory that it lives in."""

    dtype: str
    dims: tuple[int, ...]
    space: int = HBM

    @property
    def bytes(self) -> int:
        """Without the padding of tiles, which the text does not tell."""
        return math.ceil(math.prod(self.dims) * bits(self.dtype) / 8)


Shape = Array | tuple[Any, ...]  # a tuple of shapes


@functools.cache
def bits(dtype: str) -> int:
    """Of one element; 0 of `token` and `opaque`."""
    if dtype == 'pred':
        return 8
    digits = re.match(r'[a-z]+(\d+)', dtype)
    return int(digits[1]) if digits else 0


def leaves(shape: Shape) -> Iterator[Array]:
    if isinstance(shape, Array):
        yield shape
    else:
        for part in shape:
            yield from leaves(part)


def size(shape: Shape) -> int:
    """Bytes of all that a shape holds."""
    return sum(leaf.bytes for leaf in leaves(shape))


def elements(shape: Shape) -> int:
    """Numbers that a shape holds."""
    return sum(math.prod(leaf.dims) for leaf in leaves(shape))


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """One line. operands: names. literal: what stands in the brackets of a `constant` or `parameter`. text: the
    attributes, as written.
    """

    name: str
    opcode: str
    shape_text: str
    operands: tuple[str, ...]
    literal: str
    text: str
    root: bool

    @functools.cached_property
    def shape(self) -> Shape:
        return parse_shape(self.shape_text)

    @property
    def bytes(self) -> int:
        return size(self.shape)

    def attribute(self, name: str) -> str | None:
        """The attribute as written: a word, a quoted string without its quotes, or all that its brackets hold."""
        found = re.search(rf'(?:^|, ){re.escape(name)}=', self.text)
        return None if found is None else _value(self.text, found.end())

    def numbers(self, name: str) -> tuple[int, ...]:
        """The attribute's list of integers, `{0,1}`; () where it is not there."""
        return tuple(int(digits) for digits in re.findall(r'-?\d+', self.attribute(name) or ''))

    def called(self, *names: str) -> tuple[str, ...]:
        """Names of the computations that these attributes call."""
        return tuple(word for name in names for word in re.findall(r'%([^\s,{}()]+)', self.attribute(name) or ''))

    @functools.cached_property
    def op_name(self) -> str:
        """The path of JAX's transforms and modules that the instruction comes from; '' where unknown."""
        found = re.search(r'metadata=\{[^{}]*?op_name="([^"]*)"', self.text)
        return found[1] if found else ''

    @functools.cached_property
    def backend_config(self) -> Mapping[str, Any]:
        """What the compiler's backend noted; {} where it noted nothing, or nothing that is JSON."""
        start = self.text.rfind('backend_config=')
        if start < 0:
            return {}
        try:
            config = json.JSONDecoder().raw_decode(self.text, start + len('backend_config='))[0]
        except json.JSONDecodeError:
            return {}
        return config if isinstance(config, dict) else {}


@dataclasses.dataclass(frozen=True, eq=False)
class Computation:
    """Instructions by name, in the order of the text (of a scheduled module: that of execution)."""

    name: str
    instructions: Mapping[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        return next(instruction for instruction in self if instruction.root)

    @functools.cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """In the order of their numbers."""
        found = [instruction for instruction in self if instruction.opcode == 'parameter']
        return tuple(sorted(found, key=lambda instruction: int(instruction.literal)))

    @functools.cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """By name: the instructions that read it."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self:
            for operand in dict.fromkeys(instruction.operands):
                if operand in found:
                    found[operand].append(instruction)
        return {name: tuple(users) for name, users in found.items()}

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """partitions, replicas: into how many programs the text runs."""

    computations: Mapping[str, Computation]
    entry: Computation
    partitions: int
    replicas: int

    @functools.cached_property
    def fused(self) -> frozenset[str]:
        """Names of the computations that are the inside of a fusion."""
        fusions = (one for computation in self.computations.values() for one in computation if one.opcode in FUSIONS)
        return frozenset(name for fusion in fusions for name in fusion.called('calls'))


def parse(text: str) -> Module:
    """Reads `compiled.as_text()`.

    A computation ends at a line that is a bare `}`, or says which other core runs it: the attributes of Pallas calls
    hold lines that only begin with one.
    Whatever stands between two instructions belongs to the first.

    Raises:
        ValueError: where it is not the text of a module, or a line of it cannot be read.
    """
    if not text.lstrip().startswith('HloModule'):
        raise ValueError(f'this is not the text of a compiled program: it begins with {text[:40]!r}')
    computations: dict[str, Computation] = {}
    entry, name, begun = None, None, []
    for line in text.split('\n'):
        if name is None:
            head = _HEAD.match(line)
            if head:
                name, begun = head['name'], []
                entry = name if head['entry'] else entry
        elif _END.fullmatch(line):
            parts = [_instruction(lines) for lines in begun]
            computations[name] = Computation(name, {part.name: part for part in parts})
            name = None
        elif _BEGIN.match(line):
            begun.append(line)
        elif begun:
            begun[-1] += '\n' + line
    if entry is None or entry not in computations:
        raise ValueError('the text of the compiled program has no whole ENTRY computation: it was cut')
    first = text.partition('\n')[0]
    counts = {key: re.search(rf'\b{key}=(\d+)', first) for key in ('num_partitions', 'replica_count')}
    partitions, replicas = (int(found[1]) if found else 1 for found in counts.values())
    return Module(computations, computations[entry], partitions, replicas)


_HEAD = re.compile(r'(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) \(.*\{$')
_END = re.compile(r'\}(, execution_thread="\w+")?')
_BEGIN = re.compile(r'\s+(?:ROOT )?%?[^\s=(]+ = [(a-z]')
_NAME = re.compile(r'\s+(ROOT )?%?(\S+) = ')
_OPCODE = re.compile(r' ([a-z][\w\-]*)\(')
_OPERAND = re.compile(r'%([^\s,(){}]+)')
_COMMENT = re.compile(r'/\*.*?\*/')
_BRACKET = re.compile(r'[()]')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,<=? ]*)\]')
_SPACE = re.compile(r'S\((\d+)\)')


def _instruction(line: str) -> Instruction:
    head = _NAME.match(line)
    if head is None:
        raise ValueError(f'not an instruction: {line[:120]!r}')
    start = head.end()
    end = _closing(line, start) + 1 if line[start] == '(' else line.find(' ', start)
    opcode = _OPCODE.match(line, end)
    if opcode is None:
        raise ValueError(f'no opcode behind the shape: {line[:120]!r}')
    close = _closing(line, opcode.end() - 1)
    inside, kind = line[opcode.end() : close], opcode[1]
    literal = inside if kind in ('constant', 'parameter') else ''
    operands = () if literal else tuple(_OPERAND.findall(inside))
    return Instruction(head[2], kind, line[start:end], operands, literal, line[close + 1 :].lstrip(', '), bool(head[1]))


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += 1 if found[0] == '(' else -1
        if not depth:
            return found.start()
    raise ValueError(f'a bracket never closes: {text[:120]!r}')


def _value(text: str, start: int) -> str:
    if text[start] == '"':
        found = re.compile(r'"((?:[^"\\]|\\.)*)"').match(text, start)
        return found[1] if found else text[start:]
    if text[start] != '{':
        return re.compile(r'[^,]*').match(text, start)[0]  # type: ignore[index]  # matches even nothing
    depth = 0
    for found in re.compile(r'"(?:[^"\\]|\\.)*"|[{}]').finditer(text, start):  # brackets within strings are not ours
        depth += {'{': 1, '}': -1}.get(found[0], 0)
        if not depth:
            return text[start + 1 : found.start()]
    return text[start + 1 :]


@functools.lru_cache(maxsize=100_000)
def parse_shape(text: str) -> Shape:
    """`bf16[8,128]{1,0:T(8,128)(2,1)S(1)}`, or a tuple of such in brackets."""
    text = _COMMENT.sub('', text).strip()
    if not text.startswith('('):
        found = _ARRAY.match(text)
        if found is None:
            raise ValueError(f'not a shape: {text[:120]!r}')
        space = _SPACE.search(text, found.end())
        dims = tuple(int(digits) for digits in re.findall(r'\d+', found[2]))
        return Array(found[1], dims, int(space[1]) if space else HBM)
    parts, depth, start = [], 0, 1
    for found in re.compile(r'[(){}\[\],]').finditer(text):
        if found[0] in '({[':
            depth += 1
        elif found[0] in ')}]':
            depth -= 1
        if depth == (0 if found[0] == ')' else 1) and found[0] in ',)' and text[start : found.start()].strip():
            parts.append(parse_shape(text[start : found.start()]))
            start = found.end()
    return tuple(parts)
