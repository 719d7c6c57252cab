"""Where prepared data sets live, and how they get there.

mmjax's own builders, `mmjax/data/builders/NAME.py`, are run on first use. `scripts/prepare NAME` runs one beforehand,
and makes the standard sets of TFDS, which need TensorFlow once.
"""

import contextlib
import importlib
import io
import os
import pkgutil
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax.errors import UserError, nearest
from mmjax.storage import is_url, path_of


def data_dir() -> Path:
    """The directory of prepared data: `$MMJAX_DATA`, which may be in an object store, or `~/.cache/mmjax`."""
    root = os.environ.get('MMJAX_DATA') or '~/.cache/mmjax'
    return path_of(root) if is_url(root) else Path(root).expanduser().absolute()


def own_builders() -> list[str]:
    """Names of mmjax's own builders, without importing them."""
    from mmjax.data import builders

    return sorted(module.name for module in pkgutil.iter_modules(builders.__path__))


def find(name: str) -> Path:
    """The directory of a prepared data set: 'builder' or 'builder/config'.

    Prepares it first if it is one of mmjax's own. Of several prepared versions of another, the newest. Raises
    UserError for a name that is neither, and says what would prepare it.
    """
    base, _, config = name.partition('/')
    if base in own_builders():
        return _prepare_own(base, config)
    root = data_dir() / base
    if not root.is_dir():
        known = sorted({*own_builders(), *(path.name for path in _folders(data_dir()) if _is_data_set(path))})
        raise UserError(
            f"data set '{base}' is not prepared in {data_dir()}; there or built in: {', '.join(known)}"
            f'{nearest(base, known)}; a standard set of TFDS: scripts/prepare {name}'
        )
    configs = [path.name for path in _folders(root) if _versions(path)]
    if config and config not in configs:
        raise UserError(
            f"data set '{base}' has no prepared config '{config}' in {root}; there: {', '.join(configs) or 'none'}"
            f'{nearest(config, configs)}; to make it: scripts/prepare {name}'
        )
    if not config and not _versions(root):
        if len(configs) > 1:
            raise UserError(f"data set '{base}' has several configs: write {base}/ and one of {', '.join(configs)}")
        config = configs[0] if configs else ''
    versions = _versions(root / config)
    if not versions:
        raise UserError(f'{root / config} holds no prepared data; delete it and run scripts/prepare {name}')
    return versions[-1]


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _is_data_set(path: Path) -> bool:
    return any(_versions(folder) for folder in (path, *_folders(path)))


def _versions(path: Path) -> list[Path]:
    """Prepared versions below a builder's or a config's folder, oldest first. A half-made one is not among them."""
    found = []
    for folder in _folders(path):
        numbers = folder.name.split('.')
        if len(numbers) == 3 and all(n.isdigit() for n in numbers) and (folder / 'dataset_info.json').exists():
            found.append((tuple(map(int, numbers)), folder))
    return [folder for _, folder in sorted(found)]


def _prepare_own(base: str, config: str) -> Path:
    builder_class: Any = importlib.import_module(f'mmjax.data.builders.{base}').Builder
    configs = [item.name for item in builder_class.BUILDER_CONFIGS]
    if config and config not in configs:
        known = ', '.join(configs) or 'none'
        raise UserError(f"data set '{base}' has no config '{config}'; it has {known}{nearest(config, configs)}")
    name = '/'.join(filter(None, [base, config or (configs[0] if configs else '')]))
    directory = data_dir() / name / str(builder_class.VERSION)
    if (directory / 'dataset_info.json').exists():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(directory.parent / '.lock'):
            if not (directory / 'dataset_info.json').exists():
                print(f'mmjax: preparing {name} in {data_dir()}, once', file=sys.stderr, flush=True)
                _run(builder_class, config, directory)
    except OSError as error:
        where = f': {error.filename}' if error.filename else ''
        raise UserError(
            f'cannot prepare {name} in {data_dir()} ({error.strerror or str(error).splitlines()[0]}{where}); '
            'set MMJAX_DATA to a directory that you can write to, with room for the data'
        ) from error
    return directory


def _run(builder_class: Any, config: str, directory: Path) -> None:
    import tensorflow_datasets as tfds

    # TFDS writes to incomplete.… and renames at the end: what is left here was interrupted.
    for leftover in directory.parent.glob('*incomplete*'):
        shutil.rmtree(leftover)
    shutil.rmtree(directory, ignore_errors=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = builder_class(data_dir=data_dir(), config=config or None, file_format='array_record')
    with contextlib.redirect_stdout(io.StringIO()):  # the line above has said it
        builder.download_and_prepare()
    assert Path(builder.data_dir) == directory, f'{builder.data_dir} is not {directory}'


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for, and holds, an exclusive lock. The system frees it when its process ends, however it ends."""
    import fcntl

    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Prepares one of mmjax's own data sets and prints its directory. Returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith('-'):
        print(f'usage: prepare NAME; built in: {", ".join(own_builders())}', file=sys.stderr)
        return 0 if arguments in (['-h'], ['--help']) else 2
    try:
        print(find(arguments[0]))
    except UserError as error:
        print(f'mmjax: {error}', file=sys.stderr)
        return 2
    return 0
