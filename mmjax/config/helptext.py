"""What `--help` says of a field: its entry in the docstring of its class (`width: of a token.`), or its comment."""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap

from mmjax.config.swaps import Spot, choices, snake_case
from mmjax.config.tree import Node


def part_help(node: Node) -> str:
    """Returns what a part is, and the names of what can stand in its place."""
    if not dataclasses.is_dataclass(node.cls):
        return ''
    names = [snake_case(cls.__name__) for cls in choices(Spot((), node, node.annotation))]
    others = [name for name in names if name != snake_case(node.cls.__name__)]
    instead = f'Instead: {", ".join(others)}.' if others else ''
    return ' '.join(filter(None, (f'{node.cls.__name__}.', summary(node.cls), instead)))


def summary(cls: type) -> str:
    """Returns the first sentence of a part's docstring, '' where only dataclass has written one."""
    if not dataclasses.is_dataclass(cls) or (cls.__doc__ or '').startswith(f'{cls.__name__}('):
        return ''
    paragraph = ' '.join(inspect.cleandoc(cls.__doc__ or '').split('\n\n')[0].split())
    return re.split(r'(?<=\.) (?=[A-Z])', paragraph)[0]


def field_help(node: Node, name: str) -> str | None:
    return field_docs(node.cls).get(name) if dataclasses.is_dataclass(node.cls) else None


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """Returns the text about each field of a class, looked for in its own docstring and source, then in its bases'."""
    docs: dict[str, str] = {}
    names = [field.name for field in dataclasses.fields(cls)]
    for owner in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
        docs |= _from_source(owner)
        docs |= _from_docstring(owner.__doc__ or '', names)
    return docs


def _from_docstring(doc: str, names: list[str]) -> dict[str, str]:
    """'width: of a token. a, b: the rest.' -> {'width': 'of a token.', 'a': 'the rest.', 'b': 'the rest.'}"""
    name = '|'.join(map(re.escape, names))
    entry = re.compile(rf'(?:^|(?<=\. )|(?<=\n))\s*((?:{name})(?:, (?:{name}))*): ')
    docs = {}
    for paragraph in inspect.cleandoc(doc).split('\n\n'):
        pieces = entry.split(paragraph)
        for listed, text in zip(pieces[1::2], pieces[2::2], strict=True):
            docs |= dict.fromkeys(listed.split(', '), ' '.join(text.split()))
    return docs


def _from_source(cls: type) -> dict[str, str]:
    """The comment behind each field, or else those right above it."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    lines = source.splitlines()
    docs = {}
    for found in ast.walk(ast.parse(source)):
        if not (isinstance(found, ast.AnnAssign) and isinstance(found.target, ast.Name) and found.end_lineno):
            continue
        behind = lines[found.end_lineno - 1].encode()[found.end_col_offset :].decode().strip()
        above = found.lineno - 1
        while lines[above - 1].strip().startswith('#'):
            above -= 1
        text = behind or ' '.join(line.strip().lstrip('# ') for line in lines[above : found.lineno - 1])
        if text:
            docs.setdefault(found.target.id, text.lstrip('# '))
    return docs
