"""JSON files, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from mmjax.errors import UserError
from mmjax.storage import AnyPath, write_bytes


def read_json(path: AnyPath) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        UserError: where there is no such file, or it holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or error}') from error
    except ValueError as error:
        raise UserError(f'{path}: is no JSON: {error}') from error
    if not isinstance(value, dict):
        raise UserError(f'{path}: holds a {type(value).__name__}, not an object')
    return value


def check_writable(file: Path, *, flag: str) -> None:
    """Raises UserError where a file cannot be written: before hours of work whose result is to go there."""
    if file.is_dir():
        raise UserError(f'{flag} {file}: is a directory; name a file')
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"{flag} {file}: can't write into the directory {file.parent}")


def write_json(path: AnyPath, value: Any) -> None:
    """Replaces a file as a whole: a reader, or a kill, sees the old one or the new one."""
    write_bytes(path, (json.dumps(value, indent=1) + '\n').encode())
