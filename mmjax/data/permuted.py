"""Examples that have some fields of one another: labels that have nothing to do with their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmjax.data.bad import BAD, WEIGHT
from mmjax.data.base import Data, Example, Feed, Measure, Stream, entries, without_workers
from mmjax.data.loader import OpenData, epoch_row, open_data, seed_of


@dataclass(frozen=True)
class Permuted(Feed):
    """The data, with some fields permuted over the whole split, all of them alike: a permutation for each run's seed.

    Each value is as frequent as it was and tells nothing of its example; it stays there from epoch to epoch, to be
    learned by heart. Values that change places within a batch (the view `Mismatched`) are not that: each one is known
    not to be the example's own, so the others of the batch tell against the true one, and models that learned from such
    labels came out below chance. A field `f` brings all `f/…` along.

    workers: see `Data`; that of `data` is 0. Each example is read with the one whose fields it has, at twice the cost
    where they are not cached.

    Raises:
        UserError: at opening, where the examples have no such field.
    """

    data: Data
    fields: tuple[str, ...]
    workers: int = 0

    def __post_init__(self):
        without_workers(self.data, holder='permuted')

    @property
    def parts(self) -> dict[str, Data]:
        return self.data.parts

    def open(self) -> Stream:
        return _Permuted(open_data(self.data), self.fields)


class _Permuted(Stream):
    def __init__(self, opened: OpenData, fields: tuple[str, ...]):
        self._opened, self._fields = opened, fields
        (example,) = opened.read([0], [0], seed=0)
        self._moved(example)  # raises where a field is not there

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        return self._opened.labels

    @property
    def fingerprint(self) -> str:
        return f'{self._opened.fingerprint}/permuted/{"+".join(self._fields)}'

    def __len__(self) -> int:
        return len(self._opened)

    def examples(self, places: Sequence[int], *, seed: int) -> list[Example]:
        own = self._opened.examples(places, seed=seed)
        # An order of the rows that is none in which they are shuffled.
        order = seed_of(seed, 'permuted')
        givers = [epoch_row(int(example['index']), length=len(self), seed=order) for example in own]
        others = self._opened.read(givers, places, seed=seed)
        return [x | self._moved(other) | _bad(other) for x, other in zip(own, others, strict=True)]

    def mean(self, measure: Measure) -> float:
        return self._opened.mean(measure)

    def _moved(self, example: Example) -> Example:
        """What goes to another example."""
        found = [entries(example, field, asker='permuted.fields') for field in self._fields]
        return {name: value for values in found for name, value in values.items()}


def _bad(giver: Example) -> Example:
    """What has a field of a bad example is bad itself."""
    return {key: giver[key] for key in (BAD, WEIGHT) if key in giver}
