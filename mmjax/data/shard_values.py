"""The contents of a shard as values of an example."""

import io
import json
from typing import Any

import numpy as np

from mmjax.errors import BadExample, UserError, nearest

TEXTS = ('txt', 'text', 'transcript')
NUMBERS = ('cls', 'cls2', 'class', 'count', 'index', 'inx', 'id')


def decoded(content: bytes, name: str, *, where: str) -> Any:
    """By what follows the last dot of the name: text as str, json as what it says, `cls` as int32, `npy` as an array.
    Everything else, images and sounds among it, stays as it is, for a transform that reads it.

    Raises:
        BadExample: beginning with `where`, for what is not of its kind.
    """
    kind = name.rpartition('.')[2]
    try:
        if kind in TEXTS:
            return content.decode('utf-8')
        if kind == 'json':
            return json.loads(content)
        if kind in NUMBERS:
            return np.int32(int(content))
        if kind == 'npy':
            return np.load(io.BytesIO(content), allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # the header of an npy alone raises several kinds
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadExample(f'{where} is no {kind}: {first}', reason=f'unreadable {kind}') from error
    return content


def walked(value: Any, path: str, *, where: str) -> Any:
    """What stands at `path`, 'a/b', in nested dicts, numbers and lists of them as arrays.

    Raises:
        BadExample: beginning with `where`, where there is nothing there.
        UserError: where there is more than one value.
    """
    for name in filter(None, path.split('/')):
        if value is None:
            return None
        if not isinstance(value, dict) or name not in value:
            there = sorted(value) if isinstance(value, dict) else []
            more = f'; it has {", ".join(there)}{nearest(name, there)}' if there else ', or any other'
            raise BadExample(f"{where} has no '{name}'{more}", reason='missing field')
        value = value[name]
    if isinstance(value, dict):
        first = next(iter(value), 'NAME')
        raise UserError(f"{where} holds {', '.join(value)}: name one, as '…/{first}'")
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(isinstance(number, bool | int | float) for number in numbers):
        return value
    try:
        return np.array(value, _dtype(numbers))[()]
    except OverflowError as error:
        raise BadExample(f'{where} holds {value}, which 32 bits do not', reason='large number') from error


def _dtype(numbers: list[bool | int | float]) -> type:
    """As the model is given them: 32 bits."""
    kinds = {type(number) for number in numbers}
    return np.bool_ if kinds == {bool} else np.float32 if float in kinds else np.int32
