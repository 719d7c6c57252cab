"""Which examples share a row, and the row that they make."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64

from mmjax.data.base import Example
from mmjax.data.measure import is_present, real_places
from mmjax.errors import UserError


class Plan(NamedTuple):
    """Rows of examples. Row r holds the examples `order[starts[r]:starts[r + 1]]`, numbers of the split's rows."""

    order: Int64[np.ndarray, '_examples']
    starts: Int64[np.ndarray, '_rows_and_end']

    def __len__(self) -> int:
        return len(self.starts) - 1

    def places(self, row: int) -> range:
        """Where in `order` the examples of a row stand."""
        return range(int(self.starts[row]), int(self.starts[row + 1]))


def plan(
    order: Int[np.ndarray, '_examples'],
    demands: Int[np.ndarray, '_examples kinds'],
    room: Sequence[int],
    *,
    window: int,
) -> Plan:
    """First-fit-decreasing in each window of so many examples (Johnson 1973), for several kinds of room at once.

    order: the examples as they come. demands: what each of them, by its number, takes of each kind; none is more than
    `room`. A row is opened where no earlier one of its window has room; the largest examples are placed first, by the
    kind of which they take the largest part. Windows bound the work, and keep together what comes together.
    """
    rows: list[list[int]] = []
    limit = np.asarray(room)
    for start in range(0, len(order), window):
        numbers = order[start : start + window]
        largest = (demands[numbers] / limit).max(axis=1)
        opened: list[list[int]] = []
        left = np.tile(limit, (len(numbers), 1))
        for number in numbers[np.argsort(-largest, kind='stable')]:
            demand = demands[number]
            row = int(np.argmax((left[: len(opened) + 1] >= demand).all(axis=1)))  # the last, still closed, has room
            if row == len(opened):
                opened.append([])
            opened[row].append(int(number))
            left[row] -= demand
        rows += opened
    starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    return Plan(np.array([number for row in rows for number in row], np.int64), starts)


def packed_row(examples: Sequence[Example], *, lengths: Mapping[str, int], items: Mapping[str, int]) -> Example:
    """One row of several examples: of each modality in `lengths` the real places of all, one after the other, of each
    in `items` the whole items that are present, zeros after them.

    `m/segments`: the number of a place's example, from 1; 0 where the row is filled up. `m/positions`: where a place
    of a sequence stood in its own example. Other arrays of a sequence, `m/…` of its length, go with it.
    """
    row: Example = {}
    for key, length in lengths.items():
        row |= _sequence(examples, key, length)
    for key, count in items.items():
        row |= _items(examples, key, count)
    return row


def _sequence(examples: Sequence[Example], key: str, length: int) -> Example:
    real = [np.flatnonzero(real_places(example, key)) for example in examples]
    total = sum(len(places) for places in real)
    if total > length:
        raise UserError(
            f"packed: a row holds {total} places of '{key}', more than {length}: a random transform, or code that was "
            'changed, made examples longer than they were when they were measured; put what changes lengths before '
            'the random transforms, and empty `lengths/` in the data directory'
        )
    size = len(examples[0][key])
    along = [
        name
        for name, value in examples[0].items()
        if (name == key or name.startswith(f'{key}/')) and np.ndim(value) and len(value) == size
    ]
    out = {name: _filled([e[name][at] for e, at in zip(examples, real, strict=True)], length) for name in along}
    segments = [np.full(len(at), number, np.int32) for number, at in enumerate(real, 1)]
    positions = {f'{key}/positions': _filled([at.astype(np.int32) for at in real], length)}
    return positions | out | {f'{key}/segments': _filled(segments, length)}


def _items(examples: Sequence[Example], key: str, count: int) -> Example:
    there = [(number, example[key]) for number, example in enumerate(examples, 1) if is_present(example, key)]
    if len(there) > count:
        raise UserError(f"packed: a row holds {len(there)} of '{key}', more than {count}")
    values = np.stack([value for _, value in there]) if there else np.asarray(examples[0][key])[None][:0]
    segments = _filled([np.array([number for number, _ in there], np.int32)], count)
    return {key: _filled([values], count), f'{key}/segments': segments, f'{key}/present': segments > 0}


def _filled(parts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The parts one after the other, and zeros."""
    out = np.zeros((length, *parts[0].shape[1:]), parts[0].dtype)
    joined = np.concatenate(parts)
    out[: len(joined)] = joined
    return out
