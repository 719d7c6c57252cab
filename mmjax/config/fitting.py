"""Whether what a file says of a config has the types that its classes declare."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from mmjax.config.tree import alternatives, config_fields, hints, join
from mmjax.errors import UserError


def check_types(value: Any, *, path: str = '') -> None:
    """Raises UserError at the first field, of a dataclass or of one in it, that has a value of another type."""
    if dataclasses.is_dataclass(value):
        declared = hints(type(value))
        for field in config_fields(type(value)):
            child, place = getattr(value, field.name), join(path, field.name)
            if not fits(child, declared.get(field.name, Any)):
                wanted = getattr(declared[field.name], '__name__', declared[field.name])
                raise UserError(f'{place}: {str(child)[:100]!r} is {type(child).__name__}; it takes {wanted}')
            check_types(child, path=place)
    elif isinstance(value, Mapping):
        for name, child in value.items():
            check_types(child, path=join(path, str(name)))
    elif isinstance(value, tuple):
        for number, child in enumerate(value):
            check_types(child, path=join(path, str(number)))


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value may stand where this is declared. What cannot be asked of a value fits."""
    return any(_fits(value, option) for option in alternatives(annotation))


def _fits(value: Any, option: Any) -> bool:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is typing.Literal:
        return value in arguments
    if option in (None, types.NoneType):
        return value is None
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    wanted = origin or option
    try:
        if not isinstance(value, wanted):
            return False
    except TypeError:  # a protocol, a variable of a type, a name for type checkers
        return True
    if wanted is dict and arguments:
        return all(fits(item, arguments[1]) for item in value.values())
    if wanted is tuple and arguments:
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(each) == len(value) and all(fits(*pair) for pair in zip(value, each, strict=True))
    return True
