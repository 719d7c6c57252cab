from dataclasses import dataclass, field

import numpy as np
import pytest

from mmjax.data import Reader, Transform, Words
from mmjax.data import cache as cache_module
from mmjax.data.base import apply
from mmjax.data.cache import Cached
from mmjax.errors import UserError


@dataclass(frozen=True)
class Double(Transform):
    """Doubles an image and counts its calls."""

    key: str = 'image'
    calls: list = field(default_factory=list)

    def __call__(self, example, rng=None):
        self.calls.append(1)
        return {self.key: example[self.key] * 2}


@dataclass(frozen=True)
class Sum(Transform):
    """Sees the whole example."""

    def __call__(self, example, rng=None):
        return example | {'sum': int(example['image'].sum()) + example['row']}


def same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key])


@pytest.mark.parametrize('read_at_once', [1024, 4])
def test_cached_examples_are_those_of_the_reader_after_the_transforms(numbered, monkeypatch, read_at_once):
    monkeypatch.setattr(cache_module, 'READ_AT_ONCE', read_at_once)
    transforms = (Double(), Words(('row', '0', '1'), 3), Sum(), Double())
    cached = Cached(numbered(25).open(), transforms)
    rows = [24, 3, 3, 0, 11]
    for row, example in zip(rows, cached.read(rows), strict=True):
        expected = numbered(25).open()[row]
        for transform in transforms:
            expected = apply(transform, expected)
        same(example, expected)
    assert len(cached) == 25 and cached.labels == {'label': ('even', 'odd')} and cached.fingerprint == '25'


def test_each_distinct_input_is_transformed_and_stored_once(numbered):
    once, again = Double(), Double()
    reader = numbered(40).open()
    cached = Cached(reader, (once, again))
    assert reader.reads == list(range(40))
    cached.read([0, 1, 2]), cached.read([0, 1, 2])
    assert len(reader.reads) == 40
    assert len(once.calls) == len(again.calls) == 4  # images repeat every 4 rows
    images = [example['image'] for example in cached.read(range(40))]
    assert images[0] is not images[4] and np.shares_memory(images[0], images[4])
    assert not np.shares_memory(images[0], images[1])


def test_values_cannot_be_written_to(numbered):
    image = Cached(numbered(8).open(), ())[3]['image']
    with pytest.raises(ValueError, match='read-only'):
        image[0] = 1


def test_equal_numbers_of_another_type_are_another_input():
    class Kind(Transform):
        key = 'value'

        def __call__(self, example, rng=None):
            return {'value': type(example['value']).__name__}

    class Mixed(Reader):
        labels, fingerprint = {}, ''
        values = (1, 1.0, True, '1', b'1', np.int32(1), np.ones(1, np.int8), np.ones(1, bool), None)

        def __len__(self):
            return len(self.values)

        def read(self, rows):
            return [{'value': self.values[row]} for row in rows]

    found = [example['value'] for example in Cached(Mixed(), (Kind(),)).read(range(9))]
    assert found == ['int', 'float', 'bool', 'str', 'bytes', 'int32', 'ndarray', 'ndarray', 'NoneType']


def test_a_set_that_does_not_fit_is_told_before_it_fills_the_memory(numbered, monkeypatch):
    monkeypatch.setattr(cache_module, 'READ_AT_ONCE', 10)
    monkeypatch.setattr(cache_module, 'MEMORY_SHARE', 1e-9)
    reader = numbered(1000).open()
    with pytest.raises(UserError, match=r'10 of 1,000 examples.*set cache=False'):
        Cached(reader, (Double(),))
    assert len(reader.reads) == 10
