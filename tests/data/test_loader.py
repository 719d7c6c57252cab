import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.data import (
    Bytes,
    Data,
    DropModality,
    Image,
    RandomFlip,
    RandomShift,
    Tfds,
    Words,
    eval_batches,
    open_data,
    train_batches,
)
from mmjax.data.loader import _epoch_seed, epoch_row, generator
from mmjax.errors import UserError
from tests.data.streams import share

FIELDS = {'image': 'image', 'text': 'question', 'answer': 'answer', 'number': 'number', 'vector': 'vector'}
STILL = (Image(size=8), Bytes(length=40))
AUGMENTED = (*STILL, RandomFlip(), RandomShift(), DropModality({'image': 0.3, 'text': 0.3}))


def take(batches, count):
    """The first batches, and the iterator closed, which ends its threads and processes."""
    found = list(itertools.islice(batches, count))
    batches.close()
    return found


def joined(parts):
    """The batches of several processes, each put together again."""
    return [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]} for batch in zip(*parts, strict=True)
    ]


def assert_same(left, right):
    assert len(left) == len(right)
    for ours, theirs in zip(left, right, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def global_batches(data, *, count, processes=1, start=0):
    return joined(
        [
            take(train_batches(data, batch_size=8, seed=5, start=start, rows=share(8, p, processes)), count)
            for p in range(processes)
        ]
    )


def test_order_and_augmentation_do_not_depend_on_who_loads(tiny):
    """1, 2 or 4 processes, cached or not, from the start or resumed: the same 13 batches, over four epochs of 23."""
    source = Tfds('tiny', 'train', FIELDS)
    expected = global_batches(Data(source, AUGMENTED), count=13)
    for cache, processes, start in itertools.product((True, False), (1, 2, 4), (0, 9)):
        found = global_batches(Data(source, AUGMENTED, cache=cache), count=13 - start, processes=processes, start=start)
        assert_same(found, expected[start:])


def test_worker_processes_serve_the_same_batches(tiny):
    """Alone, and as one of several processes. Not more of them: every worker takes seconds to start."""
    source = Tfds('tiny', 'train', FIELDS)
    expected = global_batches(Data(source, AUGMENTED), count=5, start=2)
    assert_same(global_batches(Data(source, AUGMENTED, workers=2, cache=False), count=5, start=2), expected)
    last = train_batches(
        Data(source, AUGMENTED, workers=2),
        batch_size=8,
        seed=5,
        start=2,
        rows=[1, 6, 7],  # as its devices lie
    )
    assert_same(take(last, 5), [{key: value[[1, 6, 7]] for key, value in batch.items()} for batch in expected])


@given(length=st.integers(1, 300), seed=st.integers(0, 2**70), epoch=st.integers(0, 10**9))
def test_every_epoch_is_a_permutation(length, seed, epoch):
    rows = [epoch_row(epoch * length + place, length=length, seed=seed) for place in range(length)]
    assert sorted(rows) == list(range(length))


@pytest.mark.parametrize('length, size, processes', [(1, 4, 1), (5, 8, 4), (7, 7, 1), (10, 6, 3), (33, 4, 2)])
def test_the_stream_runs_through_the_epochs_without_a_gap(numbered, length, size, processes):
    data = Data(numbered(length), (Words(('row',), 2),))
    batches = joined(
        [
            take(train_batches(data, batch_size=size, seed=3, rows=share(size, p, processes)), 20)
            for p in range(processes)
        ]
    )
    rows = np.concatenate([batch['index'] for batch in batches])
    assert rows.tolist() == [epoch_row(place, length=length, seed=3) for place in range(20 * size)]
    np.testing.assert_array_equal(rows, np.concatenate([batch['row'] for batch in batches]))
    resumed = take(train_batches(data, batch_size=size, seed=3, start=10**12), 1)[0]['index']
    assert resumed.tolist() == [epoch_row(10**12 * size + i, length=length, seed=3) for i in range(size)]


def order(seed, epoch, length=1000):
    return [epoch_row(epoch * length + place, length=length, seed=seed) for place in range(length)]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [order(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    for left, right in itertools.combinations(orders, 2):
        assert np.mean(np.array(left) == right) < 0.02
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.15
    assert len({_epoch_seed(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


def test_without_shuffling_the_stream_is_the_split_over_and_over(numbered):
    batches = take(train_batches(Data(numbered(5), (Words(('row',), 2),), shuffle=False), batch_size=4, seed=0), 3)
    assert [batch['index'].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0, 1]]


def test_random_numbers_belong_to_seed_place_and_transform():
    draws = {
        (seed, place, position): generator(seed, place, position).random(50).tobytes()
        for seed in (0, 1, 2**64 + 1)
        for place in (0, 1, 2**40)
        for position in (0, 1)
    }
    assert len(set(draws.values())) == len(draws)
    assert generator(3, 4, 5).random() == generator(3, 4, 5).random()


def test_an_example_is_augmented_anew_in_each_epoch(numbered):
    data = Data(numbered(4), (Image(size=5), Words(('row',), 2), RandomShift(pixels=2)), shuffle=False)
    images = [batch['image'] for batch in take(train_batches(data, batch_size=4, seed=0), 6)]
    assert len({image.tobytes() for image in images}) > 3


def test_contents_of_a_batch(tiny):
    data = Data(Tfds('tiny', 'train', FIELDS), STILL)
    batch = take(train_batches(data, batch_size=6, seed=1), 1)[0]
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        'image': ((6, 8, 8, 3), np.uint8),
        'image/present': ((6,), np.bool_),
        'text': ((6, 40), np.int32),
        'text/present': ((6,), np.bool_),
        'answer': ((6,), np.int32),
        'number': ((6,), np.int32),
        'vector': ((6, 4), np.float32),
        'index': ((6,), np.int32),
        'weight': ((6,), np.float32),
    }
    np.testing.assert_array_equal(batch['index'], batch['number'])
    assert [STILL[1].decode(ids) for ids in batch['text']] == [tiny.row(n)['question'] for n in batch['number']]
    assert batch['weight'].tolist() == [1] * 6


@pytest.mark.parametrize('cache', [True, False])
@pytest.mark.parametrize('processes', [1, 2])
def test_evaluation_goes_through_the_split_once_in_order(tiny, cache, processes):
    data = Data(Tfds('tiny', 'test', FIELDS), AUGMENTED, cache=cache)
    parts = [list(eval_batches(data, batch_size=4, rows=share(4, p, processes))) for p in range(processes)]
    batches = joined(parts)
    assert [batch['weight'].tolist() for batch in batches] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert [batch['index'].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 6]]
    assert [batch['number'].tolist() for batch in batches] == [[100, 101, 102, 103], [104, 105, 106, 106]]
    plain = list(eval_batches(Data(data.source, STILL), batch_size=4))
    assert_same(batches, plain)  # augmentation is for training


def test_what_is_open_is_not_opened_again(tiny):
    source = Tfds('tiny', 'train', FIELDS)
    opened = open_data(Data(source, AUGMENTED))
    assert open_data(Data(source, (*STILL, RandomFlip()), workers=2, shuffle=False)).reader is opened.reader
    assert open_data(Data(Tfds('tiny', 'train', dict(FIELDS)), STILL)).reader is opened.reader
    assert open_data(Data(source, AUGMENTED, cache=False)).reader is not opened.reader
    assert open_data(Data(Tfds('tiny', 'test', FIELDS), STILL)).reader is not opened.reader
    assert opened.labels == {'answer': ('no', 'yes', 'perhaps')} and len(opened) == 23
    assert opened.fingerprint == source.open().fingerprint


def test_mistakes_are_told_before_the_first_batch(numbered):
    data = Data(numbered(9), (Words(('row',), 2),))
    for serve in (train_batches, eval_batches):
        extra = {'seed': 0} if serve is train_batches else {}
        with pytest.raises(UserError, match='batch_size=0'):
            serve(data, batch_size=0, **extra)
    with pytest.raises(UserError, match='seed=-1'):
        train_batches(data, batch_size=4, seed=-1)
    with pytest.raises(UserError, match='has no examples'):
        train_batches(Data(numbered(0)), batch_size=4, seed=0)


def test_mistakes_in_an_example_reach_the_caller(numbered):
    with pytest.raises(UserError, match=r"'text' is str.*Words or Bytes"):
        next(train_batches(Data(numbered(9)), batch_size=4, seed=0))
    with pytest.raises(UserError, match="examples have no 'txt'"):
        next(train_batches(Data(numbered(9), (Words(('row',), 2, key='txt'),), cache=False), batch_size=4, seed=0))


def test_importing_the_package_is_cheap():
    code = (
        'import sys, mmjax.data; '
        "print([m for m in ('jax', 'flax', 'grain', 'tensorflow_datasets', 'array_record') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
