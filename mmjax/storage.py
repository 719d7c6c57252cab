"""Files on disks and in object stores (`gs://…`, `s3://…`): what the two do differently, in one place.

An object store has no directories, no rename and no append. An object appears whole when its writing has ended, or not
at all; the newest writer wins.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from mmjax.errors import UserError

AnyPath = Path | epath.Path
"""Of a disk, or of an object store, with the methods of the former."""

EXTRAS = {'gs': 'gcs', 'gcs': 'gcs', 's3': 's3', 's3a': 's3'}  # by scheme, of this package


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a place in an object store."""
    return '://' in os.fspath(path)


def path_of(path: str | os.PathLike[str]) -> AnyPath:
    """The path to work with: of etils for a URL, which has the methods of pathlib's, and pathlib's for the rest.

    Raises:
        UserError: on a URL of a kind that is not known, or whose library is not installed.
    """
    if not is_url(path):
        return Path(path)
    scheme = os.fspath(path).partition('://')[0]
    try:
        found = epath.Path(os.fspath(path))
    except KeyError as error:
        raise UserError(f'{path}: nothing here reads {scheme}://; use a directory, gs:// or s3://') from error
    _list_anew()
    with _installed(scheme, path):
        found.exists()
    return found


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises:
        UserError: as `path_of`.
    """
    import fsspec

    _list_anew()
    scheme = path.partition('://')[0]
    try:
        with _installed(scheme, path):
            return fsspec.core.url_to_fs(path)
    except ValueError as error:
        raise UserError(f'{path}: nothing here reads {scheme}://; use a directory, gs:// or s3://') from error


def absolute(path: AnyPath) -> str:
    """The same for every working directory."""
    return os.fspath(path) if is_url(path) else str(Path(path).absolute())


def files_below(directory: AnyPath) -> list[str]:
    """The files in a directory and below it, relative to it, in order; none where there is no such directory."""
    if not is_url(directory):
        return sorted(path.relative_to(directory).as_posix() for path in directory.rglob('*') if path.is_file())
    fs, root = filesystem(os.fspath(directory))
    return sorted(name.removeprefix(f'{root}/') for name in fs.find(root))


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Replaces a file as a whole: a reader, or a kill, sees the old one or the new one, and of two writers either."""
    if is_url(path):
        path.write_bytes(content)
        return
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half of it would keep a full disk full
        raise


def create(path: AnyPath, content: bytes) -> bool:
    """Makes an object if there is none, in one step of its store; returns whether it did."""
    fs, name = filesystem(os.fspath(path))
    try:
        fs.pipe_file(name, content, mode='create')
    except FileExistsError:
        return False
    return True


def room(directory: AnyPath) -> float:
    """Bytes that are free where a directory is; infinite in a store."""
    return float('inf' if is_url(directory) else shutil.disk_usage(directory).free)


def modified(path: AnyPath) -> float:
    """When a file was last written to, in seconds since 1970; 0 where its store does not tell."""
    told: Any = path.stat()
    return float(getattr(told, 'mtime', 0) if is_url(path) else told.st_mtime)


class Spool:
    """A directory of this machine for files that grow, which `sync` brings to a run directory in an object store, each
    as a whole. Where the run is on a disk it is the run directory itself.
    """

    def __init__(self, run: AnyPath, *, begun: tuple[str, ...]):
        """begun: names of files of the run that are gone on with."""
        self._run, self._sent, self._temporary = run, {}, None
        if not is_url(run):
            self.directory = Path(run)
            return
        self._temporary = tempfile.TemporaryDirectory(prefix='mmjax-')
        self.directory = Path(self._temporary.name)
        for name in begun:
            if (run / name).exists():
                (self.directory / name).write_bytes((run / name).read_bytes())

    def sync(self) -> None:
        """Returns when what was written and flushed is in the run directory."""
        if self._temporary is None:
            return
        for file in sorted(self.directory.rglob('*')):
            state = file.is_file() and (file.stat().st_mtime_ns, file.stat().st_size)
            if state and self._sent.get(file) != state:
                write_bytes(self._run / file.relative_to(self.directory).as_posix(), file.read_bytes())
                self._sent[file] = state

    def close(self) -> None:
        self.sync()
        if self._temporary is not None:
            self._temporary.cleanup()


def _list_anew() -> None:
    """The file systems of fsspec, those of etils among them, keep no listings: a kept one lacks what other processes
    have written since, and such an object would be taken for missing.
    """
    from fsspec.config import conf

    for name in {*EXTRAS.values()}:
        conf.setdefault(name, {})['use_listings_cache'] = False


@contextlib.contextmanager
def _installed(scheme: str, path: Any) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        todo = f'install the extra `{extra}`: pip install "mmjax[{extra}]"' if extra else str(error).splitlines()[0]
        raise UserError(f'{path}: the library that reads {scheme}:// is not installed; {todo}') from error
