"""Which files are the shards of a set, what they are as files, and parts of their bytes."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmjax.data.prepare import data_dir
from mmjax.errors import UserError
from mmjax.storage import filesystem, is_url

KINDS = ('.tar', '.parquet')
STAMPS = ('ETag', 'etag', 'md5Hash', 'generation', 'LastModified', 'updated', 'mtime', 'created')
"""What file systems tell of a file's contents or age, best first."""

TRIES, PAUSE = 3, 2.0  # of a read that fails on the way; seconds before the second, and that many times more each time
OUT_OF_RANGE = 416  # HTTP's answer where the bytes that are asked for lie behind the end
CLIENTS = ('aiohttp', 'aiobotocore', 'botocore', 'gcsfs', 'google', 'requests', 'urllib3')  # of stores


class Shard(NamedTuple):
    """A file, as it was when it was listed. stamp: its digest or its time, whichever its store tells."""

    path: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        return self.path.rpartition('/')[2]


def find_shards(paths: str) -> tuple[str, list[Shard]]:
    """The kind of the shards, '.tar' or '.parquet', and the shards: in the order of the braces, else of their names.
    What is relative lies below the data directory.

    Raises:
        UserError: where there are none, one that braces name is missing, or they are not of one kind.
    """
    paths = paths if is_url(paths) else os.fspath(data_dir() / Path(paths).expanduser())
    fs, _ = filesystem(paths)
    listed: dict[str, dict[str, Any]] = {}

    def files(directory: str) -> dict[str, Any]:
        if directory not in listed:
            try:
                listed[directory] = {info['name']: info for info in fs.ls(directory, detail=True)}
            except (FileNotFoundError, NotADirectoryError):
                listed[directory] = {}
        return listed[directory]

    found: list[Shard] = []
    for pattern in expand(paths):
        _, path = filesystem(pattern)
        if any(letter in path for letter in '*?['):
            infos = sorted(fs.glob(path, detail=True).items())
        elif path in (beside := files(path.rpartition('/')[0] or '/')) and beside[path]['type'] != 'directory':
            infos = [(path, beside[path])]
        else:
            infos = sorted(item for item in files(path.rstrip('/')).items() if item[0].endswith(KINDS))
        shards = [_shard(fs, name, info, url=is_url(paths)) for name, info in infos if info['type'] != 'directory']
        if not shards:
            raise UserError(
                f"Shards.paths: no shard at '{pattern}'; name files, a pattern such as 'train-*.tar', a range such as "
                "'train-{000..127}.tar', or a directory of .tar or .parquet files"
            )
        found += shards
    kinds = {kind: shard for shard in found for kind in (_kind(shard),)}
    if len(kinds) > 1:
        raise UserError(f"Shards.paths '{paths}': has .tar and .parquet files; name one kind, as '*.tar'")
    return next(iter(kinds)), found


def expand(pattern: str) -> Iterator[str]:
    """The names that braces stand for: 'a-{08..10}.tar' -> 'a-08.tar', 'a-09.tar', 'a-10.tar'; '{x,y}' -> 'x', 'y'."""
    braces = re.search(r'\{([^{}]*)\}', pattern)
    if not braces:
        yield pattern
        return
    numbers = re.fullmatch(r'(\d+)\.\.(\d+)', braces[1])
    if numbers:
        first, last = numbers.groups()
        if int(first) > int(last):
            raise UserError(f"Shards.paths '{pattern}': {{{braces[1]}}} counts down; write the smaller number first")
        inner = [f'{number:0{len(first)}d}' for number in range(int(first), int(last) + 1)]
    else:
        inner = braces[1].split(',')
    for part in inner:
        yield from expand(pattern[: braces.start()] + part + pattern[braces.end() :])


def read_ranges(shards: Sequence[Shard], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """Of each shard the bytes from start to end; all at once where the store can. What fails on the way is read again.

    Raises:
        UserError: where a shard is gone or shorter, or its store does not give it, by its name.
    """
    found: list[Any] = [b''] * len(shards)
    left = list(range(len(shards)))
    for tried in range(TRIES):
        time.sleep(PAUSE * tried)
        again = _parts([shards[i] for i in left], [starts[i] for i in left], [ends[i] for i in left])
        for i, part in zip(left, again, strict=True):
            found[i] = part
        left = [i for i in left if _is_of_the_way(found[i])]
        if not left:
            break
    for shard, start, end, part in zip(shards, starts, ends, found, strict=True):
        if isinstance(part, Exception):
            raise unread(shard, part, tries=TRIES) from part
        if len(part) != end - start:
            raise damaged(shard, f'{start + len(part):,} bytes, where {end:,} were to be read')
    return found


def _parts(shards: list[Shard], starts: list[int], ends: list[int]) -> list[bytes | Exception]:
    if not shards:
        return []
    fs, _ = filesystem(shards[0].path)
    try:
        return fs.cat_ranges([shard.path for shard in shards], starts, ends, on_error='return')
    except Exception as error:  # a file system that has no notion of `return`
        return [error] * len(shards)


def damaged(shard: Shard, reason: object) -> UserError:
    """What to raise where a shard is not what was indexed."""
    return UserError(f'{shard.path} is damaged, or has changed since it was indexed ({_first_line(reason)})')


def unread(shard: Shard, error: Exception, *, tries: int = 1) -> UserError:
    """What to raise where a shard cannot be read: it may be the shard, or the way to its store."""
    if not _is_of_the_way(error):
        return damaged(shard, error)
    times = f' in {tries} tries' if tries > 1 else ''
    return UserError(
        f'{shard.path}: its store did not give it{times} ({_first_line(error)}); a run goes on from its last '
        'checkpoint when it does'
    )


def _is_of_the_way(error: object) -> bool:
    """Whether a store could not be reached or did not answer: each client library raises kinds of its own."""
    if not isinstance(error, Exception) or getattr(error, 'code', None) == OUT_OF_RANGE:
        return False
    library = type(error).__module__.partition('.')[0]
    return isinstance(error, (TimeoutError, ConnectionError, PermissionError)) or library in CLIENTS


def _first_line(reason: object) -> str:
    return str(reason).splitlines()[0] if str(reason) else type(reason).__name__


def _shard(fs: Any, name: str, info: dict[str, Any], *, url: bool) -> Shard:
    stamp = next((str(info[key]) for key in STAMPS if info.get(key)), '')
    return Shard(fs.unstrip_protocol(name) if url else name, int(info['size']), stamp)


def _kind(shard: Shard) -> str:
    kind = next((kind for kind in KINDS if shard.name.endswith(kind)), None)
    if kind is None:
        compressed = re.search(r'\.(tgz|tar\.\w+)$', shard.name)
        more = ' (a compressed one has no random access: unpack it)' if compressed else ''
        raise UserError(f'{shard.path}: is no shard: it ends with neither .tar nor .parquet{more}')
    return kind
