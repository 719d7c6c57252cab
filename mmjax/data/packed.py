"""Rows of a fixed length that hold several examples each, so that little of them is padding."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmjax.data.bad import BAD, WEIGHT
from mmjax.data.base import Data, Example, Feed, Measure, Stream, without_workers
from mmjax.data.loader import OpenData, epoch_row, open_data
from mmjax.data.measure import Tokens
from mmjax.data.packing import Plan, packed_row, plan
from mmjax.errors import UserError, nearest

ORDER_SEED = 0  # of the order in which examples are packed, the same in all runs
PLANS_AT_ONCE = 32


@dataclass(frozen=True)
class Packed(Feed):
    """Rows of several examples each, kept apart by segments: every example gives what it would give alone.

    data: the examples. To mix sources, mix packed data (`Mixture`): a row then holds examples of one source, and its
        loss can be told apart.
    lengths: by modality, the places of a row for sequences: `{'text': 256}`. Their real places stand one after the
        other: ids that are not padding, or where `m/mask` is true.
    items: by modality, how many whole items, such as images, a row has room for: `{'image': 8}`.
    window: examples that are packed into rows together.
    workers: see `Data`; that of `data` is 0.

    A row has of a sequence `m` [n …] with `m/segments`, `m/positions` [n], of items `m` [k …] with `m/segments`,
    `m/present` [k], and `index`, its number in the plan. Fields that are neither are left out: a row has no one answer.

    The plan is made once, from recorded lengths and in an order that is the same in all runs. An epoch goes through
    its rows, shuffled anew; so it has each example once, and row r of the stream is a pure function of r and the seed.
    Which examples share a row makes no difference to what is learned of them: they do not see one another.

    Raises:
        UserError: on room for nothing; at opening, for a modality that the data lack or an example that is longer than
            a row.
    """

    data: Data
    lengths: dict[str, int]
    items: dict[str, int] = field(default_factory=dict)
    window: int = 1024
    workers: int = 0

    def __post_init__(self):
        if not self.lengths:
            raise UserError("packed.lengths is empty: name a sequence and the length of a row, such as {'text': 256}")
        for kind in ('lengths', 'items'):
            for key, room in getattr(self, kind).items():
                if room < 1:
                    raise UserError(f"packed.{kind}['{key}'] is {room}: use a positive number")
        if both := sorted(self.lengths.keys() & self.items.keys()):
            raise UserError(f"packed: '{both[0]}' is in lengths and in items; a modality is one or the other")
        if self.window < 1:
            raise UserError(f'packed.window is {self.window}: use a positive number of examples')
        without_workers(self.data, holder='packed')

    @property
    def parts(self) -> dict[str, Data]:
        return self.data.parts

    def open(self) -> Stream:
        return _PackedStream(self, open_data(self.data))


class _PackedStream(Stream):
    def __init__(self, config: Packed, opened: OpenData):
        self._config, self._opened = config, opened
        self._plan = _planned(_Request(config, opened))

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        return {}  # of fields that rows do not have

    @property
    def fingerprint(self) -> str:
        return self._opened.fingerprint

    def __len__(self) -> int:
        return len(self._plan)

    def examples(self, places: Sequence[int], *, seed: int) -> list[Example]:
        epochs = [place // len(self) for place in places]
        shuffled = self._config.data.shuffle
        rows = [epoch_row(p, length=len(self), seed=seed) if shuffled else p % len(self) for p in places]
        members = [self._plan.places(row) for row in rows]
        numbers = [int(self._plan.order[at]) for row in members for at in row]
        # An example draws as if the stream were that of the plan's order: another draw in each epoch, its own.
        draws = [epoch * len(self._opened) + at for epoch, row in zip(epochs, members, strict=True) for at in row]
        examples = iter(self._opened.read(numbers, draws, seed=seed))
        return [
            self._row([next(examples) for _ in row]) | {'index': np.int32(number)}
            for number, row in zip(rows, members, strict=True)
        ]

    def _row(self, examples: Sequence[Example]) -> Example:
        """Without the bad ones among them; of none but such, a row of substitutes, which has no weight."""
        bad = [example for example in examples if BAD in example]
        room = dict(lengths=self._config.lengths, items=self._config.items)
        if not bad:
            return packed_row(examples, **room)
        told = {BAD: tuple(one for example in bad for one in example[BAD])}
        if len(bad) < len(examples):
            return packed_row([example for example in examples if BAD not in example], **room) | told
        return packed_row(bad[:1], **room) | told | {WEIGHT: np.float32(0)}

    def mean(self, measure: Measure) -> float:
        return float(self._opened.lengths(measure)[0].sum()) / len(self)


class _Request:
    """Argument of `_planned`: what a plan depends on, compared by that alone."""

    def __init__(self, config: Packed, opened: OpenData):
        self.config, self.opened = config, opened
        kinds = (tuple(config.lengths.items()), tuple(config.items.items()))
        self._identity = (*kinds, config.window, repr(config.data), id(opened.reader))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@functools.lru_cache(maxsize=PLANS_AT_ONCE)
def _planned(request: _Request) -> Plan:
    config, opened = request.config, request.opened
    room = config.lengths | config.items
    _check_fields(opened, room)
    measures = [Tokens(keys=(key,)) for key in config.lengths]
    measures += [Tokens(keys=(), each={key: 1}) for key in config.items]
    demands = np.stack(opened.lengths(*measures), axis=1).astype(np.int64)
    for kind, (key, most) in enumerate(room.items()):
        longer = np.flatnonzero(demands[:, kind] > most)
        if len(longer):
            worst = int(longer[np.argmax(demands[longer, kind])])
            found = demands[worst, kind]
            raise UserError(
                f"packed: example {worst} of {config.data.source} has {found} tokens of '{key}', the row room for "
                f"{most}, and {len(longer) - 1} more are too long; raise packed.lengths['{key}'], or let the "
                f'tokenizer cut (length={most})'
            )
    numbers = np.arange(len(opened))
    order = np.random.default_rng(ORDER_SEED).permutation(numbers) if config.data.shuffle else numbers
    return plan(order, demands, list(room.values()), window=config.window)


def _check_fields(opened: OpenData, keys: dict[str, int]) -> None:
    example = opened.examples([0], seed=0)[0]
    for key in keys:
        if key not in example:
            raise UserError(f"packed: examples have no '{key}'{nearest(key, example)} (they have {', '.join(example)})")
