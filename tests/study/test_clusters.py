import numpy as np
import pytest

from mmjax.data import Data, Tfds
from mmjax.errors import UserError
from mmjax.study.clusters import clusters_of
from tests.data.conftest import TRAIN, prepare_tiny, tiny_row
from tests.train import toy


def test_examples_are_grouped_by_a_field_in_the_order_of_the_split(tmp_path, monkeypatch):
    prepare_tiny(tmp_path)
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    found = clusters_of(Data(Tfds('tiny', 'train', {'x': 'image'})), 'image/id', asker='test')
    assert list(found) == [tiny_row(row)['image/id'] for row in range(TRAIN)]


def test_a_field_that_is_no_number_is_refused(tmp_path, monkeypatch):
    prepare_tiny(tmp_path)
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    with pytest.raises(UserError, match=r"--clusters: 'title' is <U.* a whole number tells"):
        clusters_of(Data(Tfds('tiny', 'train', {'x': 'image'})), 'title', asker='--clusters')


def test_without_a_field_each_is_one_of_its_own():
    np.testing.assert_array_equal(clusters_of(toy.data(rows=5), '', asker='test'), np.arange(5))


def test_a_field_of_what_is_no_tfds_is_refused():
    with pytest.raises(UserError, match="study x: clusters by 'image_id' are read from a Tfds source, not a Toy"):
        clusters_of(toy.data(rows=5), 'image_id', asker='study x')
