"""Parquet shards, read by row group."""

import bisect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data.shard_files import Shard, damaged, unread
from mmjax.data.shard_index import Arrays, Index
from mmjax.data.shard_values import walked
from mmjax.errors import UserError, nearest
from mmjax.storage import filesystem

GROUPS_HELD = 4
"""Row groups in memory. Rows in a random order meet a group each: write small ones (some hundred rows)."""


def index_parquet(shard: Shard) -> Arrays:
    """`ends` int64 [groups]: the rows up to the end of each row group; `examples`, how many; `fields`, COLUMN=COUNT.

    Raises:
        UserError: on a file that is no Parquet, or half of it.
    """
    file = _opened(shard)
    rows = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    fields = [f'{name}={file.metadata.num_rows}' for name in file.schema_arrow.names]
    file.close()
    return {
        'ends': np.cumsum(rows, dtype=np.int64),
        'examples': np.array(sum(rows)),
        'fields': np.array(fields, np.str_),
    }


class ParquetRows:
    """Reads examples of Parquet shards. fields: batch key -> column, 'image/bytes' for a part of one.

    Raises:
        UserError: where a shard has no such column.
    """

    def __init__(self, shards: Sequence[Shard], index: Index, fields: Mapping[str, str]):
        self._shards, self._index, self._fields = shards, index, fields
        self._columns = {key: column.partition('/')[0] for key, column in fields.items()}
        self._held: OrderedDict[tuple[int, int], dict[str, Any]] = OrderedDict()
        for shard, there in zip(shards, index.summary.fields, strict=True):
            for key, column in self._columns.items():
                if column not in there:
                    raise UserError(
                        f"Shards.fields['{key}'] is '{fields[key]}', and {shard.path} has no column '{column}'; it has "
                        f'{", ".join(there)}{nearest(column, there)}'
                    )
        self._ends: dict[int, list[int]] = {}

    def read(self, places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """The examples of these (shard, row of the shard); each row group is read once."""
        found: dict[int, dict[str, Any]] = {}
        located = sorted((*self._group(*place), number) for number, place in enumerate(places))
        for shard, group, row, number in located:
            columns = self._read(shard, group)
            where = f'{self._shards[shard].path}: row {places[number][1]}'
            found[number] = {
                key: walked(columns[self._columns[key]][row].as_py(), path.partition('/')[2], where=where)
                for key, path in self._fields.items()
            }
        return [found[number] for number in range(len(places))]

    def _group(self, shard: int, row: int) -> tuple[int, int, int]:
        if shard not in self._ends:
            self._ends[shard] = self._index.of(shard)['ends'].tolist()
        ends = self._ends[shard]
        group = bisect.bisect_right(ends, row)
        return shard, group, row - (ends[group - 1] if group else 0)

    def _read(self, number: int, group: int) -> dict[str, Any]:
        if (number, group) in self._held:
            self._held.move_to_end((number, group))
            return self._held[number, group]
        shard = self._shards[number]
        file = _opened(shard)
        try:
            table = file.read_row_group(group, columns=sorted(set(self._columns.values())))
        except Exception as error:  # pyarrow raises several kinds, none with the file's name
            raise unread(shard, error) from error
        finally:
            file.close()
        ends = self._ends[number]
        if table.num_rows != ends[group] - (ends[group - 1] if group else 0):
            raise damaged(shard, f'row group {group} has {table.num_rows} rows')
        self._held[number, group] = {name: table.column(name) for name in table.column_names}
        while len(self._held) > GROUPS_HELD:
            self._held.popitem(last=False)
        return self._held[number, group]


def _opened(shard: Shard) -> Any:
    import pyarrow.parquet

    fs, path = filesystem(shard.path)
    try:
        return pyarrow.parquet.ParquetFile(fs.open(path, 'rb'))
    except Exception as error:  # as above
        raise unread(shard, error) from error
