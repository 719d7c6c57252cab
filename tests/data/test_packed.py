import dataclasses
import functools
import itertools
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax import config
from mmjax.data import (
    Bytes,
    Data,
    DropModality,
    Image,
    Mixture,
    Packed,
    RandomShift,
    Reader,
    Source,
    Tokens,
    train_batches,
)
from mmjax.data.base import Transform
from mmjax.data.packing import packed_row, plan
from mmjax.errors import UserError
from tests.data import streams


@dataclass(frozen=True)
class Stories(Source):
    """Texts of several lengths, the number of each in its letters; every third has no image."""

    rows: int = 50
    letter: str = 'x'

    def open(self) -> Reader:
        return StoryReader(self)


class StoryReader(Reader):
    def __init__(self, source):
        self.source, self.labels, self.fingerprint = source, {}, repr(source)

    def __len__(self):
        return self.source.rows

    def read(self, rows):
        return [
            {
                'image': np.full((4, 4, 3), row, np.uint8) if row % 3 else None,
                'text': chr(200 + row) + self.source.letter * (row * 7 % 13),
                'answer': np.int32(row),
            }
            for row in rows
        ]


DATA = Data(Stories(), (Image(size=4), Bytes(length=16)))
PACKED = Packed(DATA, lengths={'text': 32}, items={'image': 3}, window=20)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))


take = functools.partial(streams.take, size=4)


def told(row):
    """The examples of a row, by what it holds alone: (number, whether it has an image), and their texts."""
    numbers, texts = [], {}
    for segment in range(1, row['text/segments'].max() + 1):
        at = row['text/segments'] == segment
        np.testing.assert_array_equal(row['text/positions'][at], np.arange(at.sum()))
        text = Bytes(length=16).decode(row['text'][at])
        images = row['image'][row['image/segments'] == segment]
        number = ord(text[0]) - 200
        assert len(images) <= 1 and (images == number).all()
        numbers.append((number, bool(len(images))))
        texts[number] = text
    return numbers, texts


def test_an_epoch_of_rows_holds_every_example_once():
    stream = PACKED.open()
    assert 12 <= len(stream) < 50 / 2  # 302 places in rows of 32; in three windows
    for epoch in range(2):
        rows = stream.examples(range(epoch * len(stream), (epoch + 1) * len(stream)), seed=3)
        met, texts = [], {}
        for row in rows:
            numbers, found = told(row)
            met, texts = met + numbers, texts | found
            assert (row['text'] > 0).tolist() == (row['text/segments'] > 0).tolist()
            assert row['image/present'].tolist() == (row['image/segments'] > 0).tolist()
        assert sorted(met) == [(number, bool(number % 3)) for number in range(50)]
        assert texts == {number: chr(200 + number) + 'x' * (number * 7 % 13) for number in range(50)}
        assert sorted(row['index'] for row in rows) == list(range(len(stream)))
    assert stream.mean(Tokens()) * len(stream) == sum(2 + number * 7 % 13 for number in range(50))


def test_batches_do_not_depend_on_who_loads():
    """With draws of each example's own, which differ from epoch to epoch."""
    drawn = dataclasses.replace(
        DATA, transforms=(*DATA.transforms, RandomShift(), DropModality({'image': 0.5, 'text': 0.5}))
    )
    packed = dataclasses.replace(PACKED, data=drawn)
    expected = take(packed, 12)
    for cache, processes, start in itertools.product((True, False), (1, 2, 4), (0, 7)):
        data = dataclasses.replace(packed, data=dataclasses.replace(drawn, cache=cache))
        found = take(data, 12 - start, start=start, processes=processes)
        for ours, theirs in zip(found, expected[start:], strict=True):
            assert ours.keys() == theirs.keys()
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert {key: (value.shape, value.dtype) for key, value in expected[0].items()} == {
        'text': ((4, 32), np.int32),
        'text/segments': ((4, 32), np.int32),
        'text/positions': ((4, 32), np.int32),
        'image': ((4, 3, 4, 4, 3), np.uint8),
        'image/segments': ((4, 3), np.int32),
        'image/present': ((4, 3), np.bool_),
        'index': ((4,), np.int32),
        'weight': ((4,), np.float32),
    }
    images, all_of_them = (sum(b['image/present'].sum() for b in found) for found in (expected, take(PACKED, 12)))
    assert 0.6 < images / all_of_them < 0.9  # of two modalities a quarter each, and of a lone text none


def test_epochs_and_seeds_shuffle_the_rows_of_one_plan():
    rows = len(PACKED.open())
    orders = [[int(batch['index'][0]) for batch in take(PACKED, 2 * rows, seed=seed, size=1)] for seed in (0, 1)]
    first, second = orders[0][:rows], orders[0][rows:]
    assert sorted(first) == sorted(second) == list(range(rows)) and first != second != orders[1][:rows]
    still = dataclasses.replace(PACKED, data=dataclasses.replace(DATA, shuffle=False))
    assert [int(batch['index'][0]) for batch in take(still, 5, size=1)] == [0, 1, 2, 3, 4]


@given(data=st.data(), kinds=st.integers(1, 3), window=st.integers(1, 40))
def test_a_plan_holds_every_example_once_and_no_row_more_than_it_has_room_for(data, kinds, window):
    room = data.draw(st.lists(st.integers(1, 20), min_size=kinds, max_size=kinds))
    demand = st.tuples(*(st.integers(0, most) for most in room))
    demands = np.array(data.draw(st.lists(demand, min_size=1, max_size=60)))
    order = np.random.default_rng(0).permutation(len(demands))
    made = plan(order, demands, room, window=window)
    window_of = dict(zip(order.tolist(), np.arange(len(order)) // window, strict=True))
    rows = [made.order[made.places(r)].tolist() for r in range(len(made))]
    assert sorted(number for row in rows for number in row) == list(range(len(demands)))
    for row in rows:
        assert row and (demands[row].sum(axis=0) <= room).all()
        assert len({window_of[number] for number in row}) == 1


def test_rows_are_nearly_full():
    lengths = np.random.default_rng(0).integers(5, 60, 5000)
    made = plan(np.arange(5000), lengths[:, None], [128], window=1024)
    assert lengths.sum() / (len(made) * 128) > 0.985
    alone = plan(np.arange(5000), lengths[:, None], [128], window=1)
    assert len(alone) == 5000


def test_packed_sources_mix_by_tokens_and_rows_hold_one_source_each():
    other = Packed(Data(Stories(30, 'y' * 3), (Image(size=4), Bytes(length=32))), PACKED.lengths, PACKED.items)
    mixed = Mixture({'x': PACKED, 'y': other}, {'x': 1.0, 'y': 3.0}, by=Tokens())
    batches = take(mixed, 250)
    counts = np.concatenate([(batch['text'] > 0).sum(axis=1) for batch in batches])
    sources = np.concatenate([batch['source'] for batch in batches])
    assert counts[sources == 1].sum() / counts.sum() == pytest.approx(0.75, abs=0.01)
    letters = [[set(Bytes(length=16).decode(text)) & {'x', 'y'} for text in batch['text']] for batch in batches]
    assert all(found <= {'xy'[s]} for found, s in zip(itertools.chain(*letters), sources, strict=True))


def test_a_sequence_takes_along_what_is_said_of_its_places():
    """Patches of an image at its own aspect ratio, with places and mask; of an absent one there is nothing."""
    examples = [
        {
            'image': np.full((4, 2), n, np.float32),
            'image/yx': np.stack([np.arange(4), np.full(4, n)], axis=1),
            'image/mask': np.arange(4) < n,
            'image/present': np.bool_(n != 2),
            'image/size': np.array([n, n]),
        }
        for n in (1, 2, 3)
    ]
    row = packed_row(examples, lengths={'image': 6}, items={})
    assert row['image'][:, 0].tolist() == [1, 3, 3, 3, 0, 0]
    assert row['image/yx'].tolist() == [[0, 1], [0, 3], [1, 3], [2, 3], [0, 0], [0, 0]]
    assert row['image/mask'].tolist() == [True] * 4 + [False] * 2
    assert row['image/segments'].tolist() == [1, 3, 3, 3, 0, 0]
    assert row['image/positions'].tolist() == [0, 0, 1, 2, 0, 0]
    assert row.keys() == {'image', *(f'image/{mark}' for mark in ('yx', 'mask', 'segments', 'positions'))}


def test_worker_processes_are_given_the_same_rows():
    """What is pickled to them: the plan, not what it was made from."""
    mixed = Mixture({'x': PACKED, 'y': PACKED}, {'x': 1.0, 'y': 1.0}).open()
    ours, theirs = (stream.examples(range(5), seed=1) for stream in (mixed, pickle.loads(pickle.dumps(mixed))))
    for row, other in zip(ours, theirs, strict=True):
        assert row.keys() == other.keys()
        for key in row:
            np.testing.assert_array_equal(row[key], other[key])


def test_packed_data_are_a_config():
    assert config.load(config.dump(PACKED), trust=('tests', 'test_packed')) == PACKED


@dataclass(frozen=True)
class Longer(Transform):
    """Draws how long a text is, which no plan can know."""

    key: str = 'text'
    random = True

    def __call__(self, example, rng=None):
        return example | {'text': np.full_like(example['text'], 7)}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'lengths': {}}, 'packed.lengths is empty'),
        ({'lengths': {'text': 0}}, r"packed.lengths\['text'\] is 0"),
        ({'items': {'text': 3}}, "'text' is in lengths and in items"),
        ({'window': 0}, 'packed.window is 0'),
        ({'data': dataclasses.replace(DATA, workers=1)}, 'workers=1 of the data in it start nothing'),
        (
            {'lengths': {'text': 13}},
            r"example 11 of Stories.* has 14 tokens of 'text', the row room for 13, and 2 more are too long",
        ),
        ({'lengths': {'texts': 20}}, r"examples have no 'texts'; did you mean 'text'"),
        ({'items': {'img': 1}}, r"examples have no 'img'"),
        (
            {'data': dataclasses.replace(DATA, transforms=(*DATA.transforms, Longer()))},
            "a row holds .* places of 'text', more than 32: a random transform",
        ),
    ],
)
def test_what_cannot_be_packed_is_told_before_training(change, message):
    with pytest.raises(UserError, match=message):
        next(train_batches(dataclasses.replace(PACKED, **change), batch_size=4, seed=0))
