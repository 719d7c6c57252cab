"""Examples that cannot be used: each is replaced in place by one that can, and told.

A substitute has weight 0, and stands where the example would: the order of all others, the number of a batch's rows and
what a resumed run reads do not change. What is bad is a function of the example alone, so it is the same whoever reads.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmjax.data.base import Example, Reader
from mmjax.errors import BadExample

BAD, WEIGHT = 'bad', 'weight'
"""Entries of what a stream gives in place of a bad example: what is wrong, a tuple of `Bad`; and its weight, 0."""

NEAR, FAR = 8, 56  # rows after a bad one, and over the whole split, that may take its place
SAMPLES = 5  # examples that say how all are

Kinds = dict[str, Any]  # by entry: type and shape of an array, the class of anything else
Place = tuple[int, int]  # a row of the split, and the place in the stream by which its draws are made


class Bad(NamedTuple):
    """row: of the split. reason: by which it is counted. told: what is wrong, in a line."""

    row: int
    reason: str
    told: str


def usable(places: Sequence[Place], make: Callable[[Sequence[Place]], list[Example]], *, length: int) -> list[Example]:
    """The examples at these places, or what takes their place, with `BAD` and `WEIGHT`. length: of the split.

    make: gives the examples of some places, or raises BadExample where one of them is bad.

    Raises:
        BadExample: of the first, where none of the rows that might take its place is better.
    """
    try:
        return make(places)
    except BadExample:
        return [_usable(place, make, length) for place in places]


def _usable(place: Place, make: Callable[[Sequence[Place]], list[Example]], length: int) -> Example:
    row, at = place
    try:
        return make([place])[0]
    except BadExample as error:
        for other in _others(row, length):
            try:
                example = make([(other, at)])[0]
            except BadExample:
                continue
            return example | {BAD: (Bad(row, error.reason, str(error)),), WEIGHT: np.float32(0)}
        raise


def _others(row: int, length: int) -> Iterator[int]:
    """Rows near by, then far away: what is damaged may be a whole group of a file."""
    for step in (*range(1, NEAR + 1), *(NEAR + length * i // FAR for i in range(1, FAR))):
        if step % length:
            yield (row + step) % length


def readable(reader: Reader, rows: Sequence[int]) -> Iterator[tuple[int, Example | BadExample]]:
    """Each row with its example, or with what is wrong with it; read at once where all are good."""
    try:
        check_known(reader, rows)
        yield from zip(rows, reader.read(rows), strict=True)
        return
    except BadExample:
        pass
    for row in rows:
        try:
            check_known(reader, [row])
            yield row, reader.read([row])[0]
        except BadExample as error:
            yield row, error


def check_known(reader: Reader, rows: Sequence[int]) -> None:
    """Raises BadExample where one of these rows is known to be bad."""
    for row in rows:
        if row in reader.bad:
            raise BadExample(reader.bad[row].told, reason=reader.bad[row].reason)


def kinds(example: Mapping[str, Any]) -> Kinds:
    """Type and shape of each entry, as `stack` asks for them."""
    return {key: _kind(value) for key, value in example.items()}


def _kind(value: Any) -> Any:
    return (value.dtype, value.shape) if isinstance(value, np.ndarray | np.generic) else type(value)


def _told(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else f'{kind[0]} {list(kind[1])}'


def common(examples: Iterable[Callable[[], Example]]) -> Kinds:
    """The kinds that most of a few examples have; of as many, the first.

    Raises:
        BadExample: of the first, where all are bad.
    """
    met: Counter[tuple[tuple[str, Any], ...]] = Counter()
    bad: list[BadExample] = []
    for make in examples:
        try:
            met[tuple(kinds(make()).items())] += 1
        except BadExample as error:
            bad.append(error)
    if not met:
        raise bad[0]
    return dict(met.most_common(1)[0][0])


def check_keys(example: Mapping[str, Any], expected: Collection[str]) -> None:
    """Raises BadExample where an example has not the entries that others have."""
    if odd := example.keys() ^ set(expected):
        told = f'some examples have {", ".join(sorted(odd))} and others do not; give all the same keys, None for absent'
        raise BadExample(told, reason='other fields')


def check_kinds(example: Mapping[str, Any], expected: Kinds) -> None:
    """Raises BadExample where an example cannot stand in a batch with those that have `expected`."""
    check_keys(example, expected)
    for key, value in example.items():
        if (found := _kind(value)) != expected[key]:
            raise BadExample(
                f"'{key}' is {_told(expected[key])} in one example and {_told(found)} in another; add a transform that "
                'gives them one shape (Image(size=…), Words(length=…))',
                reason='other shape',
            )


def check_texts(example: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises BadExample where a text is there, and has no token. keys: of those that a tokenizer has read."""
    for key in keys:
        if example.get(f'{key}/present', False) and not np.any(example[key]):
            raise BadExample(f"'{key}' has no token", reason='empty text')
