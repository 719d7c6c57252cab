"""Which files are the shards of a set, what they are as files, and parts of their bytes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmjax.data.prepare import data_dir
from mmjax.errors import UserError
from mmjax.storage import filesystem, is_url

KINDS = ('.tar', '.parquet')
STAMPS = ('ETag', 'etag', 'md5Hash', 'generation', 'LastModified', 'updated', 'mtime', 'created')
"""What file systems tell of a file's contents or age, best first."""


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
    paths = paths if is_url(paths) else str(data_dir() / Path(paths).expanduser())
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
    """Of each shard the bytes from start to end; all at once where the store can.

    Raises:
        UserError: where a shard is gone or shorter, by its name.
    """
    if not shards:
        return []
    fs, _ = filesystem(shards[0].path)
    try:
        found = fs.cat_ranges([shard.path for shard in shards], list(starts), list(ends), on_error='return')
    except Exception as error:  # a file system that has no notion of `return`
        raise damaged(shards[0], error) from error
    for shard, start, end, part in zip(shards, starts, ends, found, strict=True):
        if isinstance(part, Exception):
            raise damaged(shard, part) from part
        if len(part) != end - start:
            raise damaged(shard, f'{start + len(part):,} bytes, where {end:,} were to be read')
    return found


def damaged(shard: Shard, reason: object) -> UserError:
    """What to raise where a shard cannot be read, or is not what was indexed."""
    first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return UserError(f'{shard.path} is damaged, or has changed since it was indexed ({first})')


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
