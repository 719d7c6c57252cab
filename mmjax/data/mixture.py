"""Several sources in one stream, each with its share."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmjax.data.bad import BAD, WEIGHT
from mmjax.data.base import Data, Example, Feed, Measure, Stream, without_workers
from mmjax.data.loader import seed_of
from mmjax.data.measure import Examples
from mmjax.data.tokenizer import check_vocabularies
from mmjax.errors import UserError, nearest

UNITS = 2**32
"""Shares are whole numbers of these, so that the schedule is exact however long it runs."""


@dataclass(frozen=True)
class Mixture(Feed):
    """Examples of several sources, each shuffled and repeated on its own, in fixed shares.

    sources: by name; their examples have the same keys, shapes and types (`Absent` adds a modality that one lacks).
    weights: by the same names, in any unit; 0 leaves a source out. by: what is shared out: examples, tokens or
        seconds. The weights become rates of examples once, by the mean length of each source's examples.
    workers: see `Data`; those of the sources are 0.

    Which source an example is of depends on its place in the stream alone: with rates 1/2, 1/3 and 1/6 the stream goes
    a b a c a b and again, so that each batch has every source's share, to one example or two. A batch has `source` [b],
    with the names in `labels`, and the metrics tell the sources apart.

    Raises:
        UserError: on weights of other sources, below zero or with the sum zero; at opening, where two sources have
            examples, classes or tokenizers that do not fit together.
    """

    sources: dict[str, Feed]
    weights: dict[str, float]
    by: Measure = field(default_factory=Examples)
    workers: int = 0

    def __post_init__(self):
        for name in (*self.weights, *self.sources):
            if name not in self.sources or name not in self.weights:
                have, lacks = ('weights', 'sources') if name in self.weights else ('sources', 'weights')
                raise UserError(
                    f"mixture.{have} has '{name}', which mixture.{lacks} has not{nearest(name, getattr(self, lacks))}"
                )
            if not name or '/' in name:
                raise UserError(f"mixture.sources: '{name}' names metrics; give it a name without '/'")
        for name, weight in self.weights.items():
            if not (weight >= 0 and math.isfinite(weight)):
                raise UserError(f"mixture.weights['{name}'] is {weight}: use a number from 0 on")
        if not sum(self.weights.values()):
            raise UserError(f'mixture.weights sum to zero ({self.weights}): give one source a weight above 0')
        for name in self.parts:
            without_workers(self.sources[name], holder='mixture')

    @property
    def parts(self) -> dict[str, Data]:
        found = {}
        for name, source in self.sources.items():
            if set(source.parts) != {''}:
                raise UserError(f"mixture.sources['{name}'] is a mixture itself; put its sources into this one")
            found[name] = source.parts['']
        return found

    def open(self) -> Stream:
        streams = {name: source.open() for name, source in self.sources.items()}
        _check_examples(streams)
        _check_labels(streams)
        check_vocabularies({f"mixture.sources['{name}']": data.transforms for name, data in self.parts.items()})
        rates = {name: weight and weight / self._mean(name, streams[name]) for name, weight in self.weights.items()}
        return _Mixed(streams, shares([rates[name] for name in streams]))

    def _mean(self, name: str, stream: Stream) -> float:
        mean = stream.mean(self.by)
        if not mean > 0:
            raise UserError(f"mixture: examples of '{name}' have a mean length of {mean} by {self.by}")
        return mean


class _Mixed(Stream):
    def __init__(self, streams: Mapping[str, Stream], units: Sequence[int]):
        self._streams, self._units = dict(streams), tuple(units)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        merged = {key: names for stream in self._streams.values() for key, names in stream.labels.items()}
        return merged | {'source': tuple(self._streams)}

    @property
    def fingerprint(self) -> str:
        told = repr([(name, stream.fingerprint) for name, stream in self._streams.items()])
        return hashlib.sha256(told.encode()).hexdigest()

    def __len__(self) -> int:
        return sum(len(stream) for stream in self._streams.values())

    def examples(self, places: Sequence[int], *, seed: int) -> list[Example]:
        where = [locate(place, self._units) for place in places]
        found: dict[int, Example] = {}
        for number, (name, stream) in enumerate(self._streams.items()):
            mine = [i for i, (source, _) in enumerate(where) if source == number]
            if mine:
                # By name: a source that is added changes the order of no other, and equal data are drawn apart.
                drawn = stream.examples([where[i][1] for i in mine], seed=seed_of(seed, name))
                found |= {i: e | {'source': np.int32(number)} for i, e in zip(mine, drawn, strict=True)}
        return [found[i] for i in range(len(where))]

    def mean(self, measure: Measure) -> float:
        means = [stream.mean(measure) for stream in self._streams.values()]
        return sum(unit / UNITS * mean for unit, mean in zip(self._units, means, strict=True))


def shares(rates: Sequence[float]) -> list[int]:
    """Rates of any sum as whole numbers that sum to `UNITS`, the largest remainders rounded up."""
    exact = [rate / sum(rates) * UNITS for rate in rates]
    units = [int(x) for x in exact]
    by_remainder = sorted(range(len(rates)), key=lambda i: units[i] - exact[i])
    for i in by_remainder[: UNITS - sum(units)]:
        units[i] += 1
    return units


def locate(place: int, units: Sequence[int]) -> tuple[int, int]:
    """Which source the example at this place is of, and its place in that source's own stream.

    The first source takes every 1/rate-th place, as evenly as whole numbers allow (Bresenham 1965); the second does so
    among those that are left, and so on. Whole numbers throughout: nothing drifts, and no place depends on another.
    """
    left = sum(units)
    for source, unit in enumerate(units):
        before, after = ((n * unit + left // 2) // left for n in (place, place + 1)) if left else (0, 0)
        if after > before:
            return source, before
        place, left = place - before, left - unit
    raise AssertionError('the last source with a share takes all that is left')


def _check_examples(streams: Mapping[str, Stream]) -> None:
    """Every source's examples stack with those of the first."""
    shapes = {name: _shapes(stream.examples([0], seed=0)[0]) for name, stream in streams.items()}
    (first, expected), *others = shapes.items()
    if 'source' in expected:
        raise UserError(f"mixture: examples of '{first}' have a field 'source' already; rename it")
    for name, found in others:
        if odd := sorted(found.keys() ^ expected.keys()):
            has, lacks = (name, first) if odd[0] in found else (first, name)
            raise UserError(
                f"mixture: examples of '{has}' have '{odd[0]}' and those of '{lacks}' have not; leave it out of the "
                f"one, or add it to the other (`Absent('{odd[0]}')` before the transforms)"
            )
        for key, shape in expected.items():
            if found[key] != shape:
                raise UserError(
                    f"mixture: '{key}' is {shape} in '{first}' and {found[key]} in '{name}'; give both transforms to "
                    'one shape and type'
                )


def _shapes(example: Example) -> dict[str, str]:
    arrays = {key: np.asarray(value) for key, value in example.items() if key not in (BAD, WEIGHT)}
    return {key: f'{array.dtype} {list(array.shape)}' for key, array in arrays.items()}


def _check_labels(streams: Mapping[str, Stream]) -> None:
    """A class id means the same in all sources."""
    met: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, stream in streams.items():
        for key, names in stream.labels.items():
            first, expected = met.setdefault(key, (name, names))
            if names != expected:
                raise UserError(
                    f"mixture: the classes of '{key}' are {_few(expected)} in '{first}' and {_few(names)} in '{name}'; "
                    'a class id must mean the same in both'
                )


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (f' … ({len(names)})' if len(names) > 5 else '')
