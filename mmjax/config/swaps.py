"""`path=name`: replace a part of a config by a class found by its name.

There is no registry: the classes are looked for in the package where the base class of the field lives, so a new fusion
design is a new file in mmjax/fusion.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import tyro

from mmjax.config.dumping import import_class
from mmjax.config.tree import PLAIN, Node, alternatives, config_fields, join, part_classes, to_tree
from mmjax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Spot:
    """A place in a tree: its path (as the tree spells it), what is there, and what its field declares."""

    path: tuple[str, ...]
    value: Any
    annotation: Any

    @property
    def name(self) -> str:
        return '.'.join(self.path)

    @property
    def holds_part(self) -> bool:
        """Whether a class belongs here, rather than a number, a str or a collection."""
        if isinstance(self.value, Node):
            return dataclasses.is_dataclass(self.value.cls)
        return bool(part_classes(self.annotation))

    @property
    def is_flag(self) -> bool:
        """Whether one flag sets it."""
        return not self.holds_part and (not isinstance(self.value, Node) or self.value.is_plain)


def find(tree: Any, path: str) -> Spot:
    """Returns the place that a dotted path names; '-' and '_' are the same. Raises UserError with the nearest name."""
    spot = Spot((), tree, Any)
    for part in path.split('.'):
        node = spot.value
        if not isinstance(node, Node):
            value = 'not given yet' if node is tyro.MISSING else repr(node)
            raise UserError(f'{path}: {spot.name} is {value}, and has no {part!r}')
        names = {name.replace('-', '_'): name for name in node.children}
        key = part.replace('-', '_')
        if key not in names:
            deeper = [s.name for s in walk(tree) if s.name.replace('-', '_').endswith(f'.{path.replace("-", "_")}')]
            has = f'; it has {", ".join(node.children) or "nothing"}'
            hint = f"; did you mean '{deeper[0]}'?" if deeper else nearest(key, names) or has
            raise UserError(f'{path}: no {part!r} in {spot.name or "the config"}{hint}')
        name = names[key]
        spot = Spot((*spot.path, name), node.children[name], node.declared(name))
    return spot


def walk(tree: Node, path: tuple[str, ...] = ()) -> Iterator[Spot]:
    """Yields every place below `tree`, a plain tuple as one."""
    for name, child in tree.children.items():
        yield Spot((*path, name), child, tree.declared(name))
        if isinstance(child, Node) and not child.is_plain:
            yield from walk(child, (*path, name))


def put(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """Returns the tree with `value` at `path`."""
    if not path:
        return value
    children = {**tree.children, path[0]: put(tree.children[path[0]], path[1:], value)}
    return dataclasses.replace(tree, children=children)


def swap(tree: Node, spot: Spot, name: str) -> Node:
    """Returns the tree with the class called `name` at `spot`.

    The new part takes over the fields that the old one has too, where they fit; others are at their defaults. A
    required one that is a part itself is the old part, where that fits: `model.encoders.text=imputed` wraps. Any other
    required one is `tyro.MISSING` until a flag gives it.
    """
    if name == 'None' and type(None) in alternatives(spot.annotation):
        return put(tree, spot.path, None)
    cls = look_up(spot, name)
    old = spot.value.children if isinstance(spot.value, Node) else {}
    new = Node(cls, {}, spot.annotation)
    for field in config_fields(cls):
        path, annotation = join(spot.name, field.name), new.declared(field.name)
        if fits(old.get(field.name, tyro.MISSING), annotation):
            value = old[field.name]
        elif field.default_factory is not dataclasses.MISSING:
            value = to_tree(field.default_factory(), path=path, annotation=annotation)
        elif field.default is not dataclasses.MISSING:
            value = to_tree(field.default, path=path, annotation=annotation)
        else:
            value = spot.value if isinstance(spot.value, Node) and fits(spot.value, annotation) else tyro.MISSING
        new.children[field.name] = value
    return put(tree, spot.path, new)


def look_up(spot: Spot, name: str) -> type:
    """Returns the class that `name` means at `spot`: package.module:Class, or a class beside the base in snake_case."""
    bases = part_classes(spot.annotation)
    if ':' in name or '.' in name:
        cls = import_class(name, path=spot.name)
        if bases and not issubclass(cls, bases):
            raise UserError(f'{spot.name}: {name} is not a {" or ".join(base.__name__ for base in bases)}')
        return cls
    found = choices(spot)
    same = [cls for cls in found if _letters(cls.__name__) == _letters(name)]
    if len(same) == 1:
        return same[0]
    if same:
        paths = ' or '.join(f'{cls.__module__}:{cls.__name__}' for cls in same)
        raise UserError(f'{spot.name}: {name!r} can be {paths}; write which')
    names = [snake_case(cls.__name__) for cls in found]
    known = f'there are {", ".join(names)}, or write package.module:Class' if names else 'write package.module:Class'
    raise UserError(f'{spot.name}: no {name!r}{nearest(name, names)} ({known})')


def choices(spot: Spot) -> list[type]:
    """Returns the concrete classes that can stand at `spot`, by name."""
    found = {spot.value.cls} if isinstance(spot.value, Node) else set()
    for base in part_classes(spot.annotation):
        found |= _parts(base)
    return _concrete(found)


def concrete(base: type) -> list[Any]:
    """Returns the concrete classes among a base of parts and what its package derives from it, by name."""
    return _concrete(_parts(base))


def _parts(base: type) -> set[type]:
    """The classes derived from `base` in its package, all of whose modules are imported for that."""
    package = sys.modules[base.__module__].__package__ or ''
    # `mmjax.fusion` is searched whole; `mmjax` is the whole program: of that, only the module of the base.
    home = package if '.' in package else base.__module__
    for module in pkgutil.iter_modules(getattr(sys.modules[home], '__path__', ())):
        if not module.ispkg and not module.name.startswith('_'):
            importlib.import_module(f'{home}.{module.name}')
    derived = {cls for cls in _subclasses(base) if f'{cls.__module__}.'.startswith(f'{home}.')}
    return derived or {base}  # what nothing derives from is no base, but itself the part


def _concrete(classes: set[type]) -> list[type]:
    return sorted(filter(_is_concrete, classes), key=lambda cls: cls.__name__)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value of an equally named field may be taken over; in doubt yes."""
    if value is tyro.MISSING:
        return False
    for option in alternatives(annotation):
        if get_origin(option) is Literal:
            matches = value in get_args(option)
        elif isinstance(value, Node):
            kind = get_origin(option) or option
            matches = kind is Any or (isinstance(kind, type) and issubclass(value.cls, kind))
        else:
            matches = option not in PLAIN or isinstance(value, option) or (option is float and isinstance(value, int))
            matches = matches and not part_classes(option) and get_origin(option) not in (tuple, dict)
        if matches:
            return True
    return False


def snake_case(name: str) -> str:
    """ConvEncoder -> conv_encoder, LSTMEncoder -> lstm_encoder."""
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', '_', name).lower()


def _is_concrete(cls: type) -> bool:
    base = inspect.isabstract(cls) or vars(cls).get('abstract', False)  # Linen's metaclass knows no abstract methods
    return dataclasses.is_dataclass(cls) and not base and not cls.__name__.startswith('_')


def _letters(name: str) -> str:
    return name.replace('_', '').replace('-', '').lower()


def _subclasses(base: type) -> set[type]:
    return set().union(*({cls} | _subclasses(cls) for cls in base.__subclasses__()))
