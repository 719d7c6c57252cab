"""Batches, in an order that is a pure function of (seed, global example index).

The examples of training form one endless stream: the split, shuffled anew for each epoch, epoch after epoch. Global
batch b is the stream from b·B to (b+1)·B, and process p of P serves rows p·B/P to (p+1)·B/P of it. One element of the
Grain data set is one such slice, made from its number alone. Whoever makes it, and in whatever order, it is the same:
the number of processes, workers and restarts cannot show in the data.
"""

import functools
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmjax.data.base import Data, Example, Feed, Measure, Reader, Stream, Transform, apply
from mmjax.data.batch import stack
from mmjax.data.cache import Cached
from mmjax.data.lengths import recorded
from mmjax.data.prepare import data_dir
from mmjax.errors import UserError
from mmjax.failpoints import failpoint

HostBatch = dict[str, np.ndarray]  # of one process, before it is placed on devices

READ_AHEAD = 2  # batches ready before they are asked for
OPEN_AT_ONCE = 32  # opened data sets, with their caches, that a process keeps


@dataclass(frozen=True)
class OpenData(Stream):
    """`Data` opened: a reader of examples, and the transforms still to be applied, with their positions."""

    data: Data
    reader: Reader
    transforms: tuple[tuple[int, Transform], ...]

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        return self.reader.labels

    @property
    def fingerprint(self) -> str:
        return self.reader.fingerprint

    def __len__(self) -> int:
        return len(self.reader)

    def examples(self, places: Sequence[int], *, seed: int) -> list[Example]:
        length = len(self)
        rows = [epoch_row(p, length=length, seed=seed) if self.data.shuffle else p % length for p in places]
        examples = self.read(rows, places, seed=seed)
        return [example | {'index': np.int32(row)} for row, example in zip(rows, examples, strict=True)]

    def read(self, rows: Sequence[int], places: Sequence[int], *, seed: int) -> list[Example]:
        """The examples of these rows, transformed with the draws of these places."""
        examples = self.reader.read(rows)
        for position, transform in self.transforms:
            if transform.random:
                examples = [
                    apply(transform, example, generator(seed, place, position))
                    for place, example in zip(places, examples, strict=True)
                ]
            else:
                examples = [apply(transform, example) for example in examples]
        return examples

    def lengths(self, *measures: Measure) -> list[np.ndarray]:
        """What each measure says of every row, [rows]; see `recorded`."""
        once = self.data.transforms[: first_random(self.data.transforms)]
        rest = [transform for position, transform in self.transforms if position < len(once)]
        return recorded(self.reader, once, rest, measures)

    def mean(self, measure: Measure) -> float:
        return float(self.lengths(measure)[0].mean())


def open_data(data: Data) -> OpenData:
    """Opens a source and fills its cache. Shares what is open already, also between data that augment differently."""
    once = first_random(data.transforms) if data.cache else 0
    reader = _open(_ByRepr(data.source, data.transforms[:once], data.cache, str(data_dir())))
    return OpenData(data, reader, tuple(enumerate(data.transforms))[once:])


def first_random(transforms: Sequence[Transform]) -> int:
    """How many transforms stand before the first random one: what they give is the same in each epoch."""
    return next((place for place, transform in enumerate(transforms) if transform.random), len(transforms))


def train_batches(
    data: Feed, *, batch_size: int, seed: int, start: int = 0, rows: Sequence[int] | None = None
) -> Iterator[HostBatch]:
    """Endless batches, from global batch `start` on: of each the rows that this process has to load (None: all).

    Each batch holds the examples' entries stacked to [R, …], `index` int32 [R], the row in the split (or in the
    plan, see `Packed`), and `weight` float32 [R], all ones. `seed` decides the order and, with the place in the
    stream, every random transform.
    Starting at a later batch costs nothing.
    """
    if seed < 0 or start < 0:
        raise UserError(f'seed={seed}, start={start}: neither can be negative')
    make = functools.partial(_train_batch, data.open(), seed=seed, batch_size=batch_size, rows=_rows(rows, batch_size))
    return _serve(make, start=start, stop=sys.maxsize, workers=data.workers)


def eval_batches(data: Data, *, batch_size: int, rows: Sequence[int] | None = None) -> Iterator[HostBatch]:
    """Once through the split in its order, random transforms left out: of each batch the rows that this process has to
    load (None: all).

    Entries are those of `train_batches`. The last batch is filled up to `batch_size` with copies of the last row that
    have weight 0. All processes serve the same number of batches.
    """
    rows, opened = _rows(rows, batch_size), open_data(data)
    make = functools.partial(_eval_batch, opened, batch_size=batch_size, rows=rows)
    return _serve(make, start=0, stop=-(-len(opened) // batch_size), workers=data.workers)


def epoch_row(place: int, *, length: int, seed: int) -> int:
    """The row of the split that is at this place of the shuffled, repeated stream."""
    from grain.experimental import index_shuffle

    epoch, position = divmod(place, length)
    return index_shuffle(position, max_index=length - 1, seed=_epoch_seed(seed, epoch), rounds=4)


@functools.lru_cache(maxsize=16)
def _epoch_seed(seed: int, epoch: int) -> int:
    # Mixed, not added: runs with seeds 0 and 1 must not share the order of their epochs 1 and 0.
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


@functools.lru_cache(maxsize=256)
def seed_of(seed: int, name: str) -> int:
    """The seed of what is drawn under a name of its own in a run with this seed."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big')
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])


def generator(seed: int, place: int, position: int) -> np.random.Generator:
    """Random numbers of the transform at `position` for the example at `place` in the stream."""
    # The lowest of the counter's four 64-bit words counts the draws.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, position, place, 0]))


def _train_batch(stream: Stream, number: int, *, seed: int, batch_size: int, rows: Sequence[int]) -> HostBatch:
    failpoint('data/reading')
    examples = stream.examples([number * batch_size + row for row in rows], seed=seed)
    return stack(examples) | {'weight': np.ones(len(rows), np.float32)}


def _eval_batch(opened: OpenData, number: int, *, batch_size: int, rows: Sequence[int]) -> HostBatch:
    places = number * batch_size + np.asarray(rows)
    rows = np.minimum(places, len(opened) - 1).tolist()
    examples = opened.reader.read(rows)
    for _, transform in opened.transforms:
        if not transform.random:
            examples = [apply(transform, example) for example in examples]
    filled = {'index': np.asarray(rows, np.int32), 'weight': (places < len(opened)).astype(np.float32)}
    return stack(examples) | filled


def _rows(rows: Sequence[int] | None, batch_size: int) -> tuple[int, ...]:
    if batch_size < 1:
        raise UserError(f'batch_size={batch_size} is below 1')
    return tuple(range(batch_size) if rows is None else (int(row) for row in rows))


def _serve(make: Any, *, start: int, stop: int, workers: int) -> Iterator[HostBatch]:
    """Makes batches start, start+1, … ahead of their use, in a thread or in worker processes."""
    import grain

    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
    batches = grain.MapDataset.range(start, stop).map(make).to_iter_dataset(ahead)
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # Grain asks for flags that only absl.app would have parsed
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=READ_AHEAD)
        batches = batches.mp_prefetch(options)
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        iterator.close()


class _ByRepr:
    """Arguments of `_open`, compared by their text: configs hold dicts, which cannot be hashed."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.text = repr(arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByRepr) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@functools.lru_cache(maxsize=OPEN_AT_ONCE)
def _open(request: _ByRepr) -> Reader:
    source, transforms, cache, _ = request.arguments
    reader = source.open()
    if not len(reader):
        raise UserError(f'{source} has no examples')
    return Cached(reader, transforms) if cache else reader
