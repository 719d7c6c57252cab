import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax import config
from mmjax.data import (
    Absent,
    Bytes,
    Data,
    Image,
    Mixture,
    Packed,
    RandomShift,
    Reader,
    Source,
    Tokens,
    Words,
    train_batches,
)
from mmjax.data.mixture import UNITS, locate, shares
from mmjax.errors import UserError
from tests.data import streams


@dataclass(frozen=True)
class Told(Source):
    """`rows` texts of `letters` letters, each with its number, and an image that shows it."""

    rows: int
    letters: int
    classes: tuple[str, ...] = ('no', 'yes')

    def open(self) -> Reader:
        return ToldReader(self)


class ToldReader(Reader):
    def __init__(self, source):
        self.source, self.labels, self.fingerprint = source, {'answer': source.classes}, repr(source)

    def __len__(self):
        return self.source.rows

    def read(self, rows):
        letters = self.source.letters
        return [
            {'image': np.full((6, 6, 3), row, np.uint8), 'text': 'x' * letters, 'answer': np.int32(0), 'row': row}
            for row in rows
        ]


TRANSFORMS = (Image(size=6), Bytes(length=12), RandomShift(pixels=2))
SHORT, LONG = Data(Told(7, 2), TRANSFORMS), Data(Told(5, 8), TRANSFORMS)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))


take = functools.partial(streams.take, size=8)


@given(
    weights=st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=5).filter(any),
    start=st.integers(0, 10**12),
    count=st.integers(1, 200),
)
def test_each_source_goes_through_its_own_stream_at_its_rate(weights, start, count):
    """From any place on, without having been anywhere before: no place of a source left out or met twice."""
    units = shares(weights)
    assert sum(units) == UNITS
    assert all(
        abs(unit / UNITS - weight / sum(weights)) < 1 / UNITS for unit, weight in zip(units, weights, strict=True)
    )
    met = [locate(place, units) for place in range(start, start + count)]
    for source, unit in enumerate(units):
        own = [place for number, place in met if number == source]
        assert own == list(range(own[0], own[0] + len(own))) if own else True
        assert abs(len(own) - count * unit / UNITS) < len(units)
        if own:  # what it had before `start`
            assert abs(own[0] - start * unit / UNITS) < len(units)


def test_the_schedule_is_the_one_that_is_told():
    met = [locate(place, shares([3.0, 2.0, 1.0])) for place in range(12)]
    assert ''.join('abc'[source] for source, _ in met) == 'abacababacab'


def test_batches_do_not_depend_on_who_loads():
    mixed = Mixture({'short': SHORT, 'long': LONG}, {'short': 2.0, 'long': 1.0})
    expected = take(mixed, 9)
    for processes, start in itertools.product((1, 2, 4), (0, 5)):
        found = take(mixed, 9 - start, start=start, processes=processes)
        for ours, theirs in zip(found, expected[start:], strict=True):
            assert ours.keys() == theirs.keys() and 'source' in ours
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    joined = {key: np.concatenate([batch[key] for batch in expected]) for key in expected[0]}
    assert joined['source'].tolist() == [0, 1, 0] * 24
    np.testing.assert_array_equal((joined['text'] > 0).sum(axis=1), np.where(joined['source'] == 0, 2, 8))
    np.testing.assert_array_equal(joined['index'], joined['row'])
    for source, rows in ((0, 7), (1, 5)):  # each its own epochs, shuffled anew
        own = joined['row'][joined['source'] == source]
        epochs = [own[i : i + rows].tolist() for i in range(0, len(own) - rows, rows)]
        assert all(sorted(epoch) == list(range(rows)) for epoch in epochs) and len(set(map(tuple, epochs))) > 1


def test_equal_data_under_two_names_are_drawn_apart():
    batch = take(Mixture({'a': SHORT, 'b': SHORT}, {'a': 1.0, 'b': 1.0}), 7)
    joined = {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
    a, b = (joined['row'][joined['source'] == source] for source in (0, 1))
    assert a.tolist() != b.tolist()
    other = take(Mixture({'c': LONG, 'a': SHORT}, {'a': 1.0, 'c': 1.0}), 7)
    joined = {key: np.concatenate([part[key] for part in other]) for key in other[0]}
    assert joined['row'][joined['source'] == 1].tolist() == a.tolist()  # whatever else is in the mixture


def test_weights_by_tokens_give_each_source_that_share_of_the_tokens():
    by_tokens = Mixture({'short': SHORT, 'long': LONG}, {'short': 1.0, 'long': 1.0}, by=Tokens())
    batches = take(by_tokens, 10)
    counts = np.concatenate([(batch['text'] > 0).sum(axis=1) for batch in batches])
    sources = np.concatenate([batch['source'] for batch in batches])
    assert counts[sources == 0].sum() == counts[sources == 1].sum() == 128
    assert by_tokens.open().mean(Tokens()) == pytest.approx(80 * 0.04)
    assert by_tokens.open().labels == {'answer': ('no', 'yes'), 'source': ('short', 'long')}


def test_a_weight_of_zero_leaves_a_source_out():
    batches = take(Mixture({'short': SHORT, 'long': LONG}, {'short': 0.0, 'long': 1.0}, by=Tokens()), 3)
    assert all((batch['source'] == 1).all() for batch in batches)


def test_text_alone_mixes_with_images_and_text():
    alone = Data(Named(), (Absent(('image',)), Image(size=6), Bytes(length=12)))
    both = Data(Told(4, 3), (Image(size=6), Bytes(length=12)))
    (batch,) = take(Mixture({'both': both, 'alone': alone}, {'both': 1.0, 'alone': 1.0}), 1)
    np.testing.assert_array_equal(batch['image/present'], batch['source'] == 0)
    with pytest.raises(UserError, match=r"Absent: examples have a field 'image'"):
        take(dataclasses.replace(both, transforms=alone.transforms), 1)


@dataclass(frozen=True)
class Named(Source):
    def open(self) -> Reader:
        return NamedReader(Told(3, 4))


class NamedReader(ToldReader):
    def read(self, rows):
        return [{key: value for key, value in e.items() if key != 'image'} for e in super().read(rows)]


def test_a_mixture_is_a_config():
    mixed = Mixture({'tiny': SHORT}, {'tiny': 0.5}, by=Tokens(each={'image': 4}))
    assert config.load(config.dump(mixed), trust=('tests', 'test_mixture')) == mixed


def changed(**fields):
    return dataclasses.replace(LONG, **fields)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: ({'a': SHORT}, {'a': 0.0}), r"weights sum to zero \({'a': 0.0}\)"),
        (lambda: ({'a': SHORT}, {'a': -1.0}), r"weights\['a'\] is -1"),
        (lambda: ({'a': SHORT}, {'a': math.nan}), r"weights\['a'\] is nan"),
        (
            lambda: ({'news': SHORT}, {'new': 1.0}),
            r"weights has 'new', which mixture.sources has not; did you mean",
        ),
        (lambda: ({'a': SHORT, 'b': LONG}, {'a': 1.0}), r"sources has 'b', which mixture.weights has not"),
        (lambda: ({'a/b': SHORT}, {'a/b': 1.0}), "without '/'"),
        (lambda: ({'a': changed(workers=2)}, {'a': 1.0}), 'set workers of mixture'),
        (lambda: ({'a': Packed(SHORT, lengths={'text': 64}, workers=2)}, {'a': 1.0}), 'set workers of mixture'),
        (lambda: ({'a': Mixture({'b': SHORT}, {'b': 1.0})}, {'a': 1.0}), r"sources\['a'\] is a mixture itself"),
    ],
)
def test_a_mixture_that_cannot_be_is_told_at_once(make, message):
    with pytest.raises(UserError, match=message):
        Mixture(*make())


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (
            changed(transforms=(Image(size=6), Bytes(length=13))),
            r"'text' is int32 \[12\] in 'short' and int32 \[13\] in 'other'",
        ),
        (changed(transforms=(Bytes(length=12),)), "examples of 'short' have 'image/present' and those of 'other' have"),
        (
            changed(source=Told(3, 2, ('yes', 'no'))),
            "'answer' are no, yes in 'short' and yes, no in 'other'",
        ),
        (
            changed(transforms=(Image(size=6), Words(('x',), 12))),
            r"'text' is tokenized by Bytes of 258 ids in .*'short'\] and by another vocabulary, Words of 3 ids",
        ),
        (changed(source=Told(0, 2)), 'Told.rows=0.* has no examples'),
        (changed(source=Told(4, 0)), "'text' has no token"),
    ],
)
def test_sources_that_do_not_fit_together_are_told_before_the_first_batch(other, message):
    with pytest.raises(UserError, match=message):
        train_batches(
            Mixture({'short': SHORT, 'other': other}, {'short': 1.0, 'other': 1.0}, by=Tokens()), batch_size=4, seed=0
        )
