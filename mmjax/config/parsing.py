"""tyro, with what it refuses raised as UserError: one line instead of a frame on stderr."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from mmjax.errors import UserError


def parse(cls: Any, args: Sequence[str], **options: Any) -> tuple[Any, list[str]]:
    """Returns what `tyro.cli(cls, args=args, **options)` makes, and the arguments that it does not know.

    Raises:
        UserError: a value is missing or has the wrong type.
        SystemExit: with code 0, after `--help`.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(cls, args=list(args), return_unknown_args=True, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_flatten(said.getvalue())) from None


def _flatten(box: str) -> str:
    """The message of one of tyro's framed boxes, as one line: its title and its advice to read --help left out."""
    lines = [re.sub(r'\x1b\[[0-9;]*m|[│╭╮╰╯]', '', line).strip() for line in box.splitlines()]
    blocks = ['']
    for line in lines[1:]:
        if re.fullmatch('─+', line):
            blocks.append('')
        else:
            blocks[-1] += f'{line}\n'
    message = ' '.join(blocks[0].split('\n\n')[0].split()) or ' '.join(lines)
    takes = re.search(r'^Argument helptext:\n--\S+ (.+)$', '\n'.join(blocks[1:]), re.MULTILINE)
    return message + (f'; it takes {takes[1]}' if takes else '')


def named_values(rest: list[str]) -> dict[str, str]:
    """['--image', 'a.png', '--text=red?'] -> {'image': 'a.png', 'text': 'red?'}."""
    inputs, tokens = {}, iter(rest)
    for token in tokens:
        name, equals, value = token.removeprefix('--').partition('=')
        if not token.startswith('--'):
            raise UserError(f"{token!r} belongs to no flag; put quotes around a text: --text 'is it red?'")
        value = value if equals else next(tokens, None)
        if value is None:
            raise UserError(f'--{name}: its value is missing')
        inputs[name.replace('-', '_')] = value
    if not inputs:
        raise UserError("give at least one input, such as --image FILE --text 'is it red?'")
    return inputs
