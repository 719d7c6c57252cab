"""Batches, in an order that is a pure function of (seed, global example index).

The examples of training form one endless stream: the split, shuffled anew for each epoch, epoch after epoch. Global
batch b is the stream from b·B to (b+1)·B, and process p of P serves rows p·B/P to (p+1)·B/P of it. One element of the
Grain data set is one such slice, made from its number alone. Whoever makes it, and in whatever order, it is the same:
the number of processes, workers and restarts cannot show in the data.
"""

import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmjax.data.bad import BAD, SAMPLES, WEIGHT, Kinds, Place, check_kinds, check_known, check_texts, common, usable
from mmjax.data.base import Data, Example, Feed, Measure, Reader, Stream, Transform, apply
from mmjax.data.batch import stack
from mmjax.data.cache import Cached
from mmjax.data.lengths import recorded
from mmjax.data.prepare import data_dir
from mmjax.errors import BadExample, UserError
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
        make = functools.partial(self._made, seed=seed, alike=True)
        examples = usable(list(zip(rows, places, strict=True)), make, length=length)
        return [example | {'index': np.int32(row)} for row, example in zip(rows, examples, strict=True)]

    def read(self, rows: Sequence[int], places: Sequence[int], *, seed: int) -> list[Example]:
        """The examples of these rows, transformed with the draws of these places; of any shapes."""
        make = functools.partial(self._made, seed=seed, alike=False)
        return usable(list(zip(rows, places, strict=True)), make, length=len(self))

    def _made(self, places: Sequence[Place], *, seed: int, alike: bool) -> list[Example]:
        """Raises BadExample. alike: whether they are to stack with all others."""
        rows = [row for row, _ in places]
        check_known(self.reader, rows)
        examples = self.reader.read(rows)
        for position, transform in self.transforms:
            if transform.random:
                examples = [
                    apply(transform, example, generator(seed, place, position))
                    for (_, place), example in zip(places, examples, strict=True)
                ]
            else:
                examples = [apply(transform, example) for example in examples]
        for example in examples:
            if alike:
                check_kinds(example, self._kinds)
            check_texts(example, self._texts)
        return examples

    @functools.cached_property
    def _kinds(self) -> Kinds:
        """How the examples are, as most of a few say that are far from one another."""
        rows = np.unique(np.linspace(0, len(self) - 1, SAMPLES).astype(int)).tolist()
        return common(lambda row=row: self._made([(row, row)], seed=0, alike=False)[0] for row in rows)

    @functools.cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(transform.key for transform in self.data.transforms if hasattr(transform, 'decode'))

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
    data: Feed,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    rows: Sequence[int] | None = None,
    bad: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Generator[HostBatch]:
    """Endless batches, from global batch `start` on: of each the rows that this process has to load (None: all).

    Each batch holds the examples' entries stacked to [R, …], `index` int32 [R], the row in the split (or in the
    plan, see `Packed`), and `weight` float32 [R], 1, and 0 for what stands in the place of a bad example. `seed`
    decides the order and, with the place in the stream, every random transform.
    Starting at a later batch costs nothing.

    bad: told what is bad in a batch before that is given: of each example its `place` in the stream, its `row` in the
        split, the number of its `source` in a mixture, the `reason`, and what is `told` of it.

    Raises:
        BadExample: at the first bad example, without `bad`.
    """
    if seed < 0 or start < 0:
        raise UserError(f'seed={seed}, start={start}: neither can be negative')
    make = functools.partial(_train_batch, data.open(), seed=seed, batch_size=batch_size, rows=_rows(rows, batch_size))
    return _told(_serve(make, start=start, stop=sys.maxsize, workers=data.workers), bad)


def eval_batches(data: Data, *, batch_size: int, rows: Sequence[int] | None = None) -> Generator[HostBatch]:
    """Once through the split in its order, random transforms left out: of each batch the rows that this process has to
    load (None: all).

    Entries are those of `train_batches`. The last batch is filled up to `batch_size` with copies of the last row that
    have weight 0. All processes serve the same number of batches.

    Raises:
        BadExample: at one that cannot be used: scores are of all examples, or are not told.
    """
    rows, opened = _rows(rows, batch_size), open_data(data)
    make = functools.partial(_eval_batch, opened, batch_size=batch_size, rows=rows)
    return _serve(make, start=0, stop=-(-len(opened) // batch_size), workers=data.workers)


def _told(batches: Generator[HostBatch], bad: Callable[[list[dict[str, Any]]], None] | None) -> Generator[HostBatch]:
    """Takes out of each batch what is told of bad examples in it."""
    with contextlib.closing(batches):
        for batch in batches:
            if BAD in batch:
                found = json.loads(batch.pop(BAD).tobytes())
                if bad is None:
                    raise BadExample(f'row {found[0]["row"]}: {found[0]["told"]}', reason=found[0]['reason'])
                bad(found)
            yield batch


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
    places = [number * batch_size + row for row in rows]
    examples = stream.examples(places, seed=seed)
    told = [
        {'place': place, 'source': int(example['source']) if 'source' in example else None, **bad._asdict()}
        for place, example in zip(places, examples, strict=True)
        for bad in example.get(BAD, ())
    ]
    weight = np.array([example.get(WEIGHT, 1) for example in examples], np.float32)
    if told:  # as an array, which is all that comes out of a worker's process
        examples = [{key: example[key] for key in example if key not in (BAD, WEIGHT)} for example in examples]
        return stack(examples) | {WEIGHT: weight, BAD: np.frombuffer(json.dumps(told).encode(), np.uint8)}
    return stack(examples) | {WEIGHT: weight}


def _eval_batch(opened: OpenData, number: int, *, batch_size: int, rows: Sequence[int]) -> HostBatch:
    places = number * batch_size + np.asarray(rows)
    rows = np.minimum(places, len(opened) - 1).tolist()
    check_known(opened.reader, rows)
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


def _serve(make: Any, *, start: int, stop: int, workers: int) -> Generator[HostBatch]:
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
