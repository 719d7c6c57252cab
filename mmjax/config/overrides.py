"""A config changed from the command line: `model.fusion=bottleneck --model.fusion.num-tokens 8 --steps 200`.

First the swaps (`path=name`), then tyro on what they gave: so `--help` and hints are those of the swapped config.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from mmjax.config.helptext import field_help, part_help, summary
from mmjax.config.parsing import parse
from mmjax.config.swaps import Spot, find, swap, walk
from mmjax.config.tree import Node, from_tree, to_tree
from mmjax.errors import UserError, nearest

PATH = re.compile(r'\w[\w.-]*')


def override(obj: Any, args: Sequence[str], *, prog: str = 'mmjax', known_flags: Sequence[str] = ()) -> Any:
    """Returns `obj` with the changes that `args` ask for.

    `path=name` swaps the part at `path` (see swaps.py); `path=value` is `--path value`; `--path value` sets a field,
    with '-' and '_' the same; `--help` prints every field of the swapped config and exits. `known_flags` are flags of
    the caller, for the hint after a typo.

    Raises:
        UserError: an unknown path, name or flag, a value of the wrong type, or a required field without a value.
    """
    tree = to_tree(obj, annotation=type(obj))
    flags: list[str] = []
    for token in args:
        path, equals, value = token.partition('=')
        if not equals or not PATH.fullmatch(path) or takes_value(tree, flags[-1:]):
            flags.append(token)
            continue
        spot = find(tree, path)
        if spot.holds_part:
            tree = swap(tree, spot, value)
        elif not spot.is_flag:
            raise UserError(f'{token}: {spot.name} holds {", ".join(spot.value.children)}; write {spot.name}.NAME=…')
        else:
            flags.append(_as_flag(spot, value))
    if '--help' not in flags and '-h' not in flags:
        _check_given(tree, flags, known_flags=known_flags)
    return from_tree(_parse(tree, flags, prog=prog, known_flags=known_flags))


def takes_value(tree: Node, flag: Sequence[str]) -> bool:
    """Whether the token before is a flag that waits for its value, so that `--name lr=3` sets a name."""
    path = flag[0].removeprefix('--') if flag and flag[0].startswith('--') and '=' not in flag[0] else ''
    spots = (spot for spot in walk(tree) if spot.is_flag and not isinstance(spot.value, bool))
    return any(_kebab(spot.name) == _kebab(path) for spot in spots)


def _as_flag(spot: Spot, value: str) -> str:
    """`a.b=7` is `--a.b=7`; tyro's flags of a bool are `--a.b` and `--a.no-b`."""
    if isinstance(spot.value, bool) and value.lower() in ('true', 'false'):
        *head, last = spot.path
        return '--' + '.'.join([*head, last if value.lower() == 'true' else f'no-{last}'])
    return f'--{spot.name}={value}'


def _check_given(tree: Node, flags: Sequence[str], *, known_flags: Sequence[str]) -> None:
    """Raises for a required field without a value; first for a flag that may be a misspelt one of it."""
    given = [_kebab(flag.partition('=')[0]) for flag in flags if flag.startswith('--')]
    for spot in walk(tree):
        if spot.value is not tyro.MISSING or (f'--{_kebab(spot.name)}' in given and not spot.holds_part):
            continue
        for flag in given:
            if flag not in _flags(tree):
                raise UserError(_unknown(flag, tree, known_flags))
        how = f'{spot.name}=NAME' if spot.holds_part else f'--{_kebab(spot.name)} VALUE'
        raise UserError(f'{spot.name} has no default, and the part replaced had no such field; add {how}')


def _flags(tree: Node) -> list[str]:
    spots = [spot for spot in walk(tree) if spot.is_flag]
    bools = ['.'.join([*s.path[:-1], f'no-{s.path[-1]}']) for s in spots if isinstance(s.value, bool)]
    return [f'--{_kebab(name)}' for name in [spot.name for spot in spots] + bools]


def _parse(tree: Node, flags: Sequence[str], *, prog: str, known_flags: Sequence[str]) -> Node:
    registry = tyro.constructors.ConstructorRegistry()
    registry.struct_rule(_struct_rule)
    parsed, unknown = parse(
        tyro.conf.AvoidSubcommands[Node],
        flags,
        default=tree,
        prog=prog,
        description=f'{summary(tree.cls)}\n\nPATH=NAME swaps a part for one of those that its help calls "Instead".',
        registry=registry,
    )
    for token in unknown:
        raise UserError(_unknown(token, tree, known_flags))
    return parsed


def _struct_rule(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """Tells tyro what a `Node` is; so Linen's own fields, dicts and tuples of parts need no special care elsewhere."""
    node = info.default
    if not isinstance(node, Node):
        return None

    def instantiate(**children: Any) -> Node:
        changed = {k: to_tree(v) if isinstance(v, tuple) else v for k, v in children.items()}
        return dataclasses.replace(node, children={**node.children, **changed})

    return tyro.constructors.StructConstructorSpec(instantiate, tuple(_field_specs(node)))


def _field_specs(node: Node) -> Iterator[tyro.constructors.StructFieldSpec]:
    for name, child in node.children.items():
        declared = node.declared(name)
        if isinstance(child, Node) and not child.is_plain:
            yield tyro.constructors.StructFieldSpec(name, Node, child, helptext=functools.partial(part_help, child))
        elif not Spot((name,), child, declared).holds_part:  # a part that is None can only be swapped
            value = from_tree(child)
            helptext = functools.partial(field_help, node, name)
            yield tyro.constructors.StructFieldSpec(name, declared, value, helptext=helptext)


def _kebab(name: str) -> str:
    return name.replace('_', '-')


def _unknown(token: str, tree: Node, known_flags: Sequence[str]) -> str:
    if not token.startswith('-'):
        return f'{token!r} is neither path=name nor the value of a flag'
    flag = _kebab(token.partition('=')[0])
    for spot in walk(tree):
        if spot.holds_part and flag == f'--{_kebab(spot.name)}':
            return f'{flag} is a part, not a flag; write {spot.name}=NAME to swap it'
    flags = [*_flags(tree), *known_flags]
    same_end = [f for f in flags if f.endswith(f'.{flag.lstrip("-")}')]
    hint = f"; did you mean '{same_end[0]}'?" if same_end else nearest(flag, flags)
    return f'no flag {flag}{hint or "; --help lists them"}'
