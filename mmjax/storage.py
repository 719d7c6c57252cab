"""Files on disks and in object stores (`gs://…`, `s3://…`): what the two do differently, in one place.

An object store has no directories, no rename and no append. An object appears whole when its writing has ended, or not
at all; the newest writer wins.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from mmjax.errors import UserError

EXTRAS = {'gs': 'gcs', 'gcs': 'gcs', 's3': 's3', 's3a': 's3'}  # by scheme, of this package


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a place in an object store."""
    return '://' in os.fspath(path)


def path_of(path: str | os.PathLike[str]) -> Path:
    """The path to work with: of etils for a URL, which has the methods of pathlib's, and pathlib's for the rest.

    Raises:
        UserError: on a URL of a kind that is not known, or whose library is not installed.
    """
    if not is_url(path):
        return Path(path)
    from etils import epath

    scheme = os.fspath(path).partition('://')[0]
    try:
        found: Any = epath.Path(os.fspath(path))
    except KeyError as error:
        raise UserError(f'{path}: nothing here reads {scheme}://; use a directory, gs:// or s3://') from error
    with _installed(scheme, path):
        found.exists()
    return found


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises:
        UserError: as `path_of`.
    """
    import fsspec

    scheme = path.partition('://')[0]
    try:
        with _installed(scheme, path):
            return fsspec.core.url_to_fs(path)
    except ValueError as error:
        raise UserError(f'{path}: nothing here reads {scheme}://; use a directory, gs:// or s3://') from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader, or a kill, sees the old one or the new one, and of two writers either."""
    if is_url(path):
        path.write_bytes(content)
        return
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    temporary.write_bytes(content)
    os.replace(temporary, path)


@contextlib.contextmanager
def _installed(scheme: str, path: Any) -> Any:
    try:
        yield
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        todo = f'install the extra `{extra}`: pip install "mmjax[{extra}]"' if extra else str(error).splitlines()[0]
        raise UserError(f'{path}: the library that reads {scheme}:// is not installed; {todo}') from error
