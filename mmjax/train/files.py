"""JSON files, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from mmjax.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        UserError: where there is no such file, or it holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{path}: is no JSON: {error}') from error
    if not isinstance(value, dict):
        raise UserError(f'{path}: holds a {type(value).__name__}, not an object')
    return value


def write_json(path: Path, value: Any) -> None:
    """Replaces a file as a whole: a reader, or a kill, sees the old one or the new one."""
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_text(json.dumps(value, indent=1) + '\n')
    os.replace(temporary, path)
