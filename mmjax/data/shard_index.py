"""The index of a set of shards, made once and kept in `shards/` of the data directory.

Of each shard there is one file, under a name made of the shard's path, size and stamp: who adds a shard indexes that
one. Of all of them together there is one more, which says what a reader needs before it reads anything.

Who indexes, of a group: with the data directory in a store, each process goes over all shards, from a place of its own
on, and takes what others have made, so that they share the work. On a disk one process at a time indexes, and those
that waited for it find all made: one for all on a common disk, one for each machine on disks of their own. Nothing
here waits for the whole group, as a set may be opened by one of them alone, for the manifest.
"""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmjax.data.prepare import data_dir, locked
from mmjax.data.shard_files import Shard, read_ranges
from mmjax.storage import AnyPath, is_url, write_bytes

AT_ONCE = 8  # shards that are indexed at a time: most of it is waiting for the store
SAMPLES, SAMPLED = 256, 4096  # ranges, evenly spaced over all shards, that go into a fingerprint, and their bytes

Arrays = dict[str, np.ndarray]


class Summary(NamedTuple):
    """examples: of each shard. fields: of each shard, how many of its examples have each field. fingerprint: of the
    contents, the same wherever the same files are.
    """

    examples: list[int]
    fields: list[dict[str, int]]
    fingerprint: str


class Index:
    """The index of some shards; what was not there before is made. make: the index of one, `examples` and `fields`
    among its arrays, the latter as `NAME=COUNT`.

    Raises:
        UserError: on a damaged shard, by its name.
    """

    def __init__(self, shards: Sequence[Shard], make: Callable[[Shard], Arrays]):
        self._shards, self._make = shards, make
        self._directory = data_dir() / 'shards'
        names = json.dumps([list(shard) for shard in shards])
        self._file = self._directory / f'{hashlib.sha256(names.encode()).hexdigest()[:32]}.json'
        self.summary = _summary(self._file, len(shards)) or self._made()

    def of(self, number: int) -> Arrays:
        """The arrays of one shard."""
        shard = self._shards[number]
        file = self._directory / f'{hashlib.sha256(json.dumps(list(shard)).encode()).hexdigest()[:32]}.npz'
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
                return dict(stored)
        except Exception:  # not there, or not whole: it is made again
            arrays = self._make(shard)
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, **arrays)
            self._keep(file, content.getvalue())
            return arrays

    def _made(self) -> Summary:
        from tqdm import tqdm

        with self._alone():
            summary = _summary(self._file, len(self._shards))
            if summary:
                return summary
            total = len(self._shards)
            from mmjax.distributed.group import number_of  # brings JAX, which a loader does without

            number, processes = number_of()
            first = total * number // processes
            order = [*range(first, total), *range(first)]
            pool = ThreadPoolExecutor(AT_ONCE)
            try:
                ahead = pool.map(self._told, order)
                told = list(tqdm(ahead, total=total, desc='mmjax: indexing shards, once', disable=None, delay=2))
            finally:
                pool.shutdown(cancel_futures=True)  # a damaged shard ends it: the others are not waited for
            told = [told[i - first] for i in range(total)]
            examples, fields = [count for count, _ in told], [there for _, there in told]
            summary = Summary(examples, fields, _fingerprint(self._shards))
            self._keep(self._file, json.dumps(summary._asdict()).encode())
            return summary

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One process at a time where the directory is on a disk. Else each may index: what they write is equal."""
        if is_url(self._directory):
            return contextlib.nullcontext()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            return locked(Path(self._directory) / '.lock')
        except OSError:  # `_keep` tells
            return contextlib.nullcontext()

    def _told(self, number: int) -> tuple[int, dict[str, int]]:
        arrays = self.of(number)
        pairs = (pair.rpartition('=') for pair in arrays['fields'].tolist())
        return int(arrays['examples']), {name: int(count) for name, _, count in pairs}

    def _keep(self, file: AnyPath, content: bytes) -> None:
        try:
            write_bytes(file, content)
        except Exception as error:  # a data directory that others filled, or a store, which raises kinds of its own
            print(f'mmjax: the index is not kept in {file.parent} ({error})', file=sys.stderr, flush=True)


def _summary(file: AnyPath, shards: int) -> Summary | None:
    try:
        summary = Summary(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return summary if len(summary.examples) == shards else None


def _fingerprint(shards: Sequence[Shard]) -> str:
    """Of names, sizes and parts of the contents; not of where the files lie or how old they are."""
    digest = hashlib.sha256(json.dumps([(shard.name, shard.size) for shard in shards]).encode())
    ends = np.cumsum([shard.size for shard in shards])
    chosen, starts, stops = [], [], []
    for place in np.unique(np.linspace(0, ends[-1] - 1, SAMPLES).astype(np.int64)).tolist():
        number = int(np.searchsorted(ends, place, side='right'))
        start = place - int(ends[number]) + shards[number].size
        chosen.append(shards[number])
        starts.append(start)
        stops.append(min(start + SAMPLED, shards[number].size))
    for part in read_ranges(chosen, starts, stops):
        digest.update(part)
    return digest.hexdigest()
