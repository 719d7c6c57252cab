"""Tar shards of WebDataset and Parquet shards, on disks and in object stores, as a set with random access."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmjax.data.base import Example, Reader, Source
from mmjax.data.shard_files import Shard, damaged, find_shards
from mmjax.data.shard_index import Index
from mmjax.data.shard_parquet import ParquetRows, index_parquet
from mmjax.data.shard_tar import TarRows, index_tar
from mmjax.errors import UserError


@dataclass(frozen=True)
class Shards(Source):
    """The examples of all shards, one after the other, by the names that the model gives to their fields.

        Shards('gs://bucket/cc12m/{00000..01242}.tar', {'image': 'jpg;png', 'text': 'txt', 'answer': 'json/label'})
        Shards('laion/part-*.parquet', {'image': 'image/bytes', 'text': 'caption'})

    paths: a file, a pattern with `*`, ranges and lists in braces, or a directory; all .tar or all .parquet. What is
        relative lies below `$MMJAX_DATA`.
    fields: batch key -> of a tar, what follows the first dot of the members' names ('jpg;png': the first that there
        is; 'json/a/b': a part of a json); of Parquet, the column ('a/b': a part of a struct).

    The shards are indexed on first use (see `shard_index.py`), so that the order of training is that of every other
    source: a function of the seed and the place, whatever the number of processes. A tar may have members in any
    number and size; only those asked for are read, each by its place in the file. Of Parquet a row group is the least
    that can be read: for training in a random order write groups of some hundred rows.

    Images stay encoded, texts are str, `cls` is int32, `npy` an array; see `shard_values.py`.
    """

    paths: str
    fields: dict[str, str]

    def __post_init__(self):
        if not self.fields:
            raise UserError("Shards.fields is empty: name what an example has, as {'image': 'jpg', 'text': 'txt'}")

    def open(self) -> Reader:
        return ShardsReader(self)


class ShardsReader(Reader):
    """Reads by row. met: the shards as they were when another process opened them.

    Raises:
        UserError: where no shard matches, one is damaged or has changed since, or an example has not all fields.
    """

    def __init__(self, source: Shards, met: Sequence[Shard] = ()):
        self._source = source
        kind, self._shards = find_shards(source.paths)
        for before, now in zip(met, self._shards, strict=False):
            if before != now:
                raise damaged(before, f'{before.size:,} bytes of {before.stamp}; now {now.size:,} of {now.stamp}')
        if met and len(met) != len(self._shards):
            raise UserError(f"'{source.paths}': {len(met)} shards have become {len(self._shards)}; start anew")
        if not any(shard.size for shard in self._shards):
            raise damaged(self._shards[0], 'it is empty, as are all')
        index = Index(self._shards, index_tar if kind == '.tar' else index_parquet)
        self._rows = (TarRows if kind == '.tar' else ParquetRows)(self._shards, index, source.fields)
        self._ends = np.cumsum(index.summary.examples)
        if empty := [shard.path for shard in self._shards if not shard.size]:
            more = f' and {len(empty) - 1} more' if len(empty) > 1 else ''
            print(f'mmjax: {empty[0]}{more}: empty, read as a shard without examples', file=sys.stderr, flush=True)
        self.labels = {}
        told = json.dumps([index.summary.fingerprint, source.fields])
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    def __reduce__(self):
        return ShardsReader, (self._source, tuple(self._shards))  # a worker process opens the files itself

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Sequence[int]) -> list[Example]:
        numbers = np.searchsorted(self._ends, np.asarray(rows), side='right').tolist()
        before = [int(self._ends[number - 1]) if number else 0 for number in numbers]
        return self._rows.read([(n, int(row) - b) for n, row, b in zip(numbers, rows, before, strict=True)])
