"""A config file: Python with `def experiment() -> Experiment`, or a tuple of them, or `def study() -> Study`.

FILE:FUNCTION names another function of it.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.errors import UserError, nearest


def load_file(path: str, *, kind: type, function: str = 'experiment') -> Any:
    """Returns what a function of a config file returns, an instance of `kind`.

    path: FILE[:FUNCTION]; function: which, where the path names none.

    Raises:
        UserError: the file is missing, doesn't run, has no such function, or that returns something else.
    """
    path, function = parts_of(path, function=function)
    made = _made(path, kind=kind, function=function)
    if not isinstance(made, kind):
        raise UserError(f'{path}: {function}() returns a {type(made).__name__}; it must return a {kind.__name__}')
    return made


def load_stages(path: str, *, kind: type) -> Any:
    """Returns what a function of a config file returns: an instance of `kind`, or a tuple of them, the stages.

    path: FILE[:FUNCTION], by default `experiment`.

    Raises:
        UserError: as `load_file`, and on an empty tuple.
    """
    path, function = parts_of(path, function='experiment')
    made = _made(path, kind=kind, function=function)
    if isinstance(made, tuple) and made and all(isinstance(stage, kind) for stage in made):
        return made
    if not isinstance(made, kind):
        parts = (type(stage).__name__ for stage in made) if isinstance(made, tuple) else ()
        inside = f' of {", ".join(parts) or "nothing"}' if isinstance(made, tuple) else ''
        raise UserError(
            f'{path}: {function}() returns a {type(made).__name__}{inside}; it must return a {kind.__name__}, or a '
            'tuple of them for stages'
        )
    return made


def parts_of(path: str, *, function: str = '') -> tuple[str, str]:
    """FILE and FUNCTION of FILE[:FUNCTION]; the given one, where the path names none."""
    file, _, named = path.partition(':')
    return file, named or function


def name_of(path: str) -> str:
    """What runs of FILE[:FUNCTION] are called: the file's name, and the function's where the path names one."""
    file, function = parts_of(path)
    return '-'.join(filter(None, (Path(file).stem, function)))


def _made(path: str, *, kind: type, function: str) -> Any:
    """What the function returns.

    A file in a directory `configs` or `experiments` is imported as `configs.NAME`, any other as `NAME` with its
    directory on `sys.path`; so the classes that it defines have a path by which a dump can name them.
    """
    file = Path(path)
    if not file.is_file():
        names = [str(f) for f in file.parent.glob('*.py')] if file.parent.is_dir() else []
        raise UserError(f'{path}: no such config file{nearest(str(file), names)}')
    if file.suffix != '.py':
        raise UserError(f'{path}: a config file is Python and ends in .py')
    module = _import(file.resolve(), shown=path, function=function)
    make = getattr(module, function, None)
    if not callable(make):
        raise UserError(f'{path}: defines no function `{function}`; write def {function}() -> {kind.__name__}')
    try:
        return make()
    except UserError:
        raise
    except Exception as error:
        raise UserError(_where(error, file=file.resolve(), shown=path)) from error


def _import(file: Path, *, shown: str, function: str) -> ModuleType:
    """Imports a file once under the name that its classes will be known by."""
    folder = file.parent.name
    ours = folder in ('configs', 'experiments')
    name = f'{folder}.{file.stem}' if ours else file.stem
    root = str(file.parent.parent if ours else file.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, '__file__', None) == str(file):
        return loaded
    if loaded is not None and not hasattr(loaded, function):
        raise UserError(f'{shown}: a module {name!r} is loaded already; give the file another name')
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, UserError):
            raise
        raise UserError(_where(error, file=file, shown=shown)) from error
    return module


def _where(error: Exception, *, file: Path, shown: str) -> str:
    """'configs/x.py line 12: NameError: …': the last line of the file that was running."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f'{shown}{f" line {line}" if line else ""}: {type(error).__name__}: {message}'
