"""The one shape in which a config is saved, edited and rebuilt: a tree of `Node`s over plain values.

    Experiment(model=Model(fusion=Early(dim=64)), steps=9)
    Node(Experiment, {'model': Node(Model, {'fusion': Node(Early, {'dim': 64})}), 'steps': 9})

A tree, unlike the objects, may be incomplete while it is edited, so no half-made module is ever constructed.
"""

import dataclasses
import functools
import inspect
import sys
import types
import typing
from typing import Any

from mmjax.errors import UserError

PLAIN = (str, int, float, bool, types.NoneType)


@dataclasses.dataclass(frozen=True)
class Node:
    """A dataclass, a Linen module, a dict with str keys, or a tuple (whose children are called '0', '1', …)."""

    cls: type
    children: dict[str, Any]
    annotation: Any = dataclasses.field(default=None, compare=False)  # of the field that holds it

    @property
    def is_plain(self) -> bool:
        """Whether it is one value for a flag: a tuple without parts or dicts in it, an empty dict."""
        if self.cls is dict:
            return not self.children
        return self.cls is tuple and all(not isinstance(c, Node) or c.is_plain for c in self.children.values())

    def declared(self, name: str) -> Any:
        """Returns the annotation of the child `name`: what the class, `dict[str, T]` or `tuple[T, ...]` says of it."""
        if dataclasses.is_dataclass(self.cls):
            return hints(self.cls).get(name, Any)
        for option in alternatives(self.annotation):
            args = typing.get_args(option)
            if typing.get_origin(option) is not self.cls or not args:
                continue
            if self.cls is dict:
                return args[1]
            return args[0] if args[-1] is Ellipsis else args[min(int(name), len(args) - 1)]
        return Any


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Returns the annotations of a class, resolved; as written where some name exists only for type checkers."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        try:
            found |= inspect.get_annotations(owner, eval_str=True)
        except NameError:
            found |= inspect.get_annotations(owner)
    return found


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, each without `Annotated`: `Fusion | None` -> (Fusion, NoneType)."""
    if typing.get_origin(annotation) is typing.Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(found for option in typing.get_args(annotation) for found in alternatives(option))
    return (annotation,)


def part_classes(annotation: Any) -> tuple[type, ...]:
    """Returns the classes of an annotation that stand for a part (a dataclass, a module) and not for a plain value."""
    other = (*PLAIN, dict, tuple, object, Any)
    return tuple(option for option in alternatives(annotation) if isinstance(option, type) and option not in other)


def is_module(cls: type) -> bool:
    """Whether a class is a Linen module. Linen itself is not imported: before it is, there is none."""
    linen = sys.modules.get('flax.linen')
    return linen is not None and issubclass(cls, linen.Module)


def config_fields(cls: type) -> list[dataclasses.Field]:
    """Returns the fields that a config gives: without Linen's own `parent` and `name`."""
    own = ('parent', 'name') if is_module(cls) else ()
    return [field for field in dataclasses.fields(cls) if field.init and field.name not in own]


def join(path: str, name: str) -> str:
    return f'{path}.{name}' if path else name


def to_tree(value: Any, *, path: str = '', annotation: Any = Any) -> Any:
    """Returns `value` as a tree. `path` is where it stands and `annotation` what its field declares.

    An instance that stands in two places comes back as two: a module in a config is a template, and no way to share
    parameters.

    Raises:
        UserError: something in it has no exact form in JSON; the message gives its path.
    """
    cls = type(value)
    if dataclasses.is_dataclass(cls):
        if is_module(cls) and value.name is not None:
            raise UserError(f'{path}: leave out name={value.name!r}; the module that holds this one names it')
        node = Node(cls, {field.name: getattr(value, field.name) for field in config_fields(cls)}, annotation)
    elif cls is dict:
        bad = [key for key in value if not isinstance(key, str) or key == 'class']
        if bad:
            raise UserError(f"{path}: {bad[0]!r} can't be a key of a dict in a config: use a str other than 'class'")
        node = Node(dict, value, annotation)
    elif cls is tuple:
        node = Node(tuple, {str(i): item for i, item in enumerate(value)}, annotation)
    elif cls in PLAIN:
        return value
    else:
        instead = 'a tuple' if isinstance(value, list) else 'a str, number, bool, None, tuple, dict or frozen dataclass'
        raise UserError(f'{path or "config"}: a {cls.__name__} has no exact form in JSON; use {instead}')
    children = {
        name: to_tree(child, path=join(path, name), annotation=node.declared(name))
        for name, child in node.children.items()
    }
    return dataclasses.replace(node, children=children)


def from_tree(tree: Any, *, path: str = '') -> Any:
    """Returns the objects that a tree describes; every call makes new ones.

    Raises:
        UserError: a class refuses its fields; the message gives the path.
    """
    if not isinstance(tree, Node):
        return tree
    children = {name: from_tree(child, path=join(path, name)) for name, child in tree.children.items()}
    if tree.cls is dict:
        return children
    if tree.cls is tuple:
        return tuple(children.values())
    try:
        return tree.cls(**children)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # a value of another type
        raise UserError(f'{path or tree.cls.__name__}: {error}') from error
