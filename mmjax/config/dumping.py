"""A config as JSON, and back: `load(dump(experiment)) == experiment`, also years later.

    {"schema": 1, "class": "mmjax.experiment.Experiment", "model": {"class": "mmjax.model.Model", …}, "steps": 2000}

Every default is written out, because a changed default must not change an old run.
"""

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.config.fitting import check_types
from mmjax.config.tree import Node, config_fields, from_tree, join, to_tree
from mmjax.errors import UserError, nearest

# What renames and moves did to older dumps: (schema that the function produces, function of a dump), oldest first.
# A field that was only *added* needs no entry here, but field(metadata={'old': what runs before it did}).
UPGRADES: tuple[tuple[int, Callable[[dict[str, Any]], dict[str, Any]]], ...] = ()

Parts = dict[int, tuple[Any, Any, Any]]  # by identity: a part of configs, as a tree, and in its canonical form

TRUSTED = ('mmjax', 'configs', 'experiments')


def current_schema() -> int:
    return UPGRADES[-1][0] if UPGRADES else 1


def dump(obj: Any) -> dict[str, Any]:
    """Returns `obj` (a tree of dataclasses and unbound Linen modules) as JSON, defaults included.

    Raises:
        UserError: something in it can't be written exactly, or its class can't be imported again.
    """
    return {'schema': current_schema(), **_to_json(to_tree(obj), path='')}


def load(dumped: dict[str, Any], *, trust: Sequence[str] = ()) -> Any:
    """Returns what `dump` was given. Classes are imported only from mmjax, configs, experiments and `trust`.

    Raises:
        UserError: the dump can't be mapped onto today's classes; names the place, and the commit that wrote it where
            the dump has a key `commit`.
    """
    commit = dumped.get('commit')
    written = f' (the config was written by commit {commit})' if commit else ''
    schema = dumped.get('schema')
    if not isinstance(schema, int) or schema > current_schema():
        raise UserError(f'config schema {schema!r}: this version reads 1 to {current_schema()}{written}')
    for produces, upgrade in UPGRADES:
        if schema < produces:
            dumped = upgrade(dumped)
    body = {key: value for key, value in dumped.items() if key not in ('schema', 'commit')}
    try:
        loaded = from_tree(_to_tree(body, path='', trust=trust))
        check_types(loaded)
        return loaded
    except UserError as error:
        raise UserError(f'{error}{written}') from error


def config_hash(obj: Any, *, parts: Parts | None = None) -> str:
    """Returns the SHA-256 (hex) of what decides a run, which is a dataclass.

    parts: kept by a caller who hashes many configs that hold the same objects in their fields: each is read once, and
    must not change after that.

    Fields at the value that runs had before the field existed (`metadata={'old': …}`) are left out, so adding a field
    changes no hash. The order of a dict counts, because modules iterate over theirs; that of fields does not.
    """
    parts = {} if parts is None else parts
    trees, canonical = {}, {}
    for field in config_fields(type(obj)):
        part = getattr(obj, field.name)
        if id(part) not in parts:
            tree = to_tree(part, path=field.name)
            parts[id(part)] = part, tree, _canonical(tree)
        _, trees[field.name], canonical[field.name] = parts[id(part)]
    told = _told(type(obj), trees, canonical)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def class_path(cls: type, *, path: str) -> str:
    """Returns 'package.module.Class'; raises UserError if a later process can't import that."""
    module = importlib.import_module(cls.__module__)
    if cls.__module__ == '__main__' or getattr(module, cls.__qualname__, None) is not cls:
        raise UserError(f'{path or "config"}: define {cls.__qualname__} of {cls.__module__} at the top of a module')
    return f'{cls.__module__}.{cls.__qualname__}'


def import_class(name: str, *, path: str) -> type:
    """Returns the dataclass called 'package.module.Class' or 'package.module:Class'; UserError if there is none."""
    where = f'{path}: ' if path else ''
    module_name, _, class_name = name.replace(':', '.').rpartition('.')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{module_name}.'.startswith(f'{error.name}.'):
            raise  # the module is there, and something that it imports is not
        raise UserError(f"{where}can't import {name}: no module {error.name!r} in {module_name!r}") from error
    except (TypeError, ValueError) as error:  # 'Class' or '..package.Class'
        raise UserError(f'{where}{name!r} is no class path; write package.module:Class') from error
    known = {key: cls for key, cls in vars(module).items() if isinstance(cls, type) and dataclasses.is_dataclass(cls)}
    if class_name not in known:
        raise UserError(f'{where}{module_name} has no dataclass {class_name!r}{nearest(class_name, known)}')
    return known[class_name]


def _to_json(tree: Any, *, path: str) -> Any:
    if not isinstance(tree, Node):
        return tree
    children = {name: _to_json(child, path=join(path, name)) for name, child in tree.children.items()}
    if tree.cls is tuple:
        return list(children.values())
    return children if tree.cls is dict else {'class': class_path(tree.cls, path=path), **children}


def _to_tree(value: Any, *, path: str, trust: Sequence[str]) -> Any:
    if isinstance(value, list):
        return Node(tuple, {str(i): _to_tree(v, path=join(path, str(i)), trust=trust) for i, v in enumerate(value)})
    if not isinstance(value, dict):
        return value
    children = {k: _to_tree(v, path=join(path, k), trust=trust) for k, v in value.items() if k != 'class'}
    if 'class' not in value:
        return Node(dict, children)
    name = str(value['class'])
    package = name.split('.')[0]
    if package not in (*TRUSTED, *trust):
        raise UserError(f'{path or "config"}: {name} is not imported unless you trust it: add --trust {package}')
    cls = import_class(name, path=path)
    fields = {field.name: field for field in config_fields(cls)}
    for child in children:
        if child not in fields:
            raise UserError(f'{join(path, child)}: {name} has no such field{nearest(child, fields)}')
    for field in fields.values():
        if field.name not in children:
            if 'old' not in field.metadata:
                raise UserError(f'{join(path, field.name)}: is not in the config, and {name} needs it')
            children[field.name] = to_tree(field.metadata['old'])
    return Node(cls, children)


def _canonical(tree: Any) -> Any:
    if isinstance(tree, float) and tree.is_integer():
        return int(tree)  # 1.0 == 1, so their hashes are equal too
    if not isinstance(tree, Node):
        return tree
    children = {name: _canonical(child) for name, child in tree.children.items()}
    if tree.cls is dict:
        return list(children.items())
    return list(children.values()) if tree.cls is tuple else _told(tree.cls, tree.children, children)


def _told(cls: type, trees: Mapping[str, Any], canonical: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of an instance: its class, and its fields that are not as they were before they existed."""
    old = {field.name: to_tree(field.metadata['old']) for field in config_fields(cls) if 'old' in field.metadata}
    told = {name: form for name, form in canonical.items() if name not in old or old[name] != trees[name]}
    return {'class': class_path(cls, path=''), **told}
