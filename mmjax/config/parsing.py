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
