"""WebDataset's tar shards: members found by an index, and read by their place in the file.

The key of a member is its path up to the first dot of its base name, its field what follows that dot, in lower case;
consecutive members of one key are one example:

    cats/001.jpg  cats/001.txt  cats/002.jpg  cats/002.txt   ->   two examples of the fields jpg and txt

What is no file, has no dot, or begins with one, is passed over; so are names like `__meta__`.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data.shard_files import Shard, damaged, read_ranges, unread
from mmjax.data.shard_index import Arrays, Index
from mmjax.data.shard_values import decoded, walked
from mmjax.errors import BadExample, UserError
from mmjax.storage import filesystem

BLOCK = 512
MOST_FIELDS = 256
MOST_LACKING = 0.5  # of the examples of a shard: where more lack a field, its name is wrong
READ = 1 << 20  # bytes, with which headers are looked for in a remote file


def index_tar(shard: Shard) -> Arrays:
    """`members` int64 [examples, names, 2]: where the contents begin and how long they are, -1 where there are none;
    `names` of the fields; `examples`, how many; `fields`, NAME=COUNT of those that have it.

    Raises:
        UserError: on a file that is no tar, has an end missing, or two members of one name in an example.
    """
    examples: list[dict[str, tuple[int, int]]] = []
    last = None
    if not shard.size:  # what wrote it was ended: the others are what they are
        none = np.array([], np.str_)
        return {'members': np.zeros((0, 0, 2), np.int64), 'names': none, 'examples': np.array(0), 'fields': none}
    for name, start, size in _members(shard):
        key, field = key_and_field(name)
        if key is None:
            continue
        if key != last:
            examples.append({})
            last = key
        if field in examples[-1]:
            raise UserError(f"{shard.path}: the example '{key}' has two members '{field}'")
        examples[-1][field] = start, size
    names = sorted({name for example in examples for name in example})
    if len(names) > MOST_FIELDS:
        raise UserError(
            f"{shard.path}: has {len(names)} kinds of members, such as '{names[0]}' and '{names[1]}': what follows the "
            'first dot of a name is the field; name the files without other dots'
        )
    members = np.full((len(examples), len(names), 2), -1, np.int64)
    for row, example in enumerate(examples):
        for name, place in example.items():
            members[row, names.index(name)] = place
    counts = (members[:, :, 0] >= 0).sum(axis=0)
    fields = [f'{name}={count}' for name, count in zip(names, counts, strict=True)]
    return {
        'members': members,
        'names': np.array(names, np.str_),
        'examples': np.array(len(examples)),
        'fields': np.array(fields, np.str_),
    }


def key_and_field(name: str) -> tuple[str | None, str]:
    """'cats/v1.2/001.seg.PNG' -> ('cats/v1.2/001', 'seg.png'); (None, '') for what is no part of an example."""
    directory, slash, base = name.rpartition('/')
    stem, dot, field = base.partition('.')
    if not stem or not dot or not field or re.search(r'(^|/)__[^/]*__(/|$)', name):
        return None, ''
    return f'{directory}{slash}{stem}', field.lower()


class TarRows:
    """Reads examples of tar shards. fields: batch key -> field, 'json/caption' for a part of one, 'jpg;png' for the
    first of several that an example has.

    Raises:
        UserError: where most examples of a shard lack a field; `BadExample`, at reading, where one does.
    """

    def __init__(self, shards: Sequence[Shard], index: Index, fields: Mapping[str, str]):
        self._shards, self._index, self._fields = shards, index, fields
        self._held: dict[int, Arrays] = {}
        summary = index.summary
        for number, (count, there) in enumerate(zip(summary.examples, summary.fields, strict=True)):
            for key, wanted in fields.items():
                names = choices(wanted)
                if max((there.get(name, 0) for name in names), default=0) == count:
                    continue
                missing = np.flatnonzero(self._places(number, names)[:, 0] < 0)
                if missing.size > MOST_LACKING * count:
                    raise self._lacks(number, int(missing[0]), key, wanted)

    def read(self, places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """The examples of these (shard, row of the shard)."""
        wanted = []
        for number, row in places:
            arrays = self._arrays(number)
            for key, field in self._fields.items():
                there = (n for n in choices(field) if n in arrays['names'] and self._at(arrays, row, n)[0] >= 0)
                if (name := next(there, None)) is None:
                    raise BadExample(str(self._lacks(number, row, key, field)), reason='missing field')
                wanted.append((number, key, name, *map(int, self._at(arrays, row, name))))
        unique = dict.fromkeys((number, start, size) for number, _, _, start, size in wanted)
        contents = dict(zip(unique, self._contents(list(unique)), strict=True))
        values = iter(wanted)
        examples = []
        for _ in places:
            example = {}
            for field in self._fields.values():
                number, key, name, start, size = next(values)
                where = f"{self._shards[number].path}: the member '{name}' at byte {start}"
                value = decoded(contents[number, start, size], name, where=where)
                example[key] = walked(value, field.partition('/')[2], where=where)
            examples.append(example)
        return examples

    def _contents(self, ranges: list[tuple[int, int, int]]) -> list[bytes]:
        """With the header before each, which says whether the file is still the one that was indexed."""
        shards = [self._shards[number] for number, _, _ in ranges]
        starts = [start - BLOCK for _, start, _ in ranges]
        parts = read_ranges(shards, starts, [start + size for _, start, size in ranges])
        for shard, part, (_, start, size) in zip(shards, parts, ranges, strict=True):
            try:
                header = tarfile.TarInfo.frombuf(part[:BLOCK], 'utf-8', 'surrogateescape')
            except tarfile.HeaderError as error:
                raise damaged(shard, f'no header at byte {start - BLOCK}') from error
            if header.size != size:
                raise damaged(shard, f'{header.size} bytes at byte {start}, not {size}')
        return [part[BLOCK:] for part in parts]

    def _arrays(self, number: int) -> Arrays:
        if number not in self._held:
            if len(self._held) >= 256:
                self._held.pop(next(iter(self._held)))
            self._held[number] = self._index.of(number)
        return self._held[number]

    def _at(self, arrays: Arrays, row: int, name: str) -> np.ndarray:
        return arrays['members'][row, int(np.flatnonzero(arrays['names'] == name)[0])]

    def _places(self, number: int, names: Sequence[str]) -> np.ndarray:
        """Of each example, the place of the first of `names` that it has, [examples, 2]; -1 where it has none."""
        arrays = self._arrays(number)
        places = np.full((len(arrays['members']), 2), -1, np.int64)
        for name in reversed(names):
            for column in np.flatnonzero(arrays['names'] == name):
                place = arrays['members'][:, column]
                places = np.where(place[:, :1] >= 0, place, places)
        return places

    def _lacks(self, number: int, row: int, key: str, wanted: str) -> UserError:
        shard, keys, there = self._shards[number], [], self._index.summary.fields[number]
        for name, _, _ in _members(shard):
            found, _ = key_and_field(name)
            if found is not None and (not keys or keys[-1] != found):
                keys.append(found)
        return UserError(
            f"Shards.fields['{key}'] is '{wanted}', which the example '{keys[row]}' of {shard.path} does not have; in "
            f'this shard there are {", ".join(there) or "none"}; leave the field out, or drop such examples'
        )


def choices(wanted: str) -> list[str]:
    """'jpg;png' -> ['jpg', 'png']; 'json/caption' -> ['json']."""
    return [name.strip().lower().removeprefix('.') for name in wanted.partition('/')[0].split(';')]


def _members(shard: Shard) -> Iterator[tuple[str, int, int]]:
    """Name, start and size of each file in a tar. Raises UserError where it is damaged or its end is missing."""
    fs, path = filesystem(shard.path)
    try:
        with fs.open(path, 'rb', block_size=READ) as file, tarfile.open(fileobj=file, mode='r:') as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
                tar.members.clear()  # it keeps all that it has met
            file.seek(tar.offset)
            end = file.read(BLOCK)
            if end.strip(b'\0') or len(end) < BLOCK:
                raise tarfile.ReadError(f'it breaks off at byte {tar.offset + len(end):,} of {shard.size:,}')
    except Exception as error:  # of tarfile, and whatever the store raises
        raise unread(shard, error) from error
