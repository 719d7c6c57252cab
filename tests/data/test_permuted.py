"""Permuted fields: the same values, of other examples."""

from dataclasses import dataclass

import numpy as np
import pytest

from mmjax.data import Reader, Source
from mmjax.data.permuted import Permuted
from mmjax.errors import UserError
from tests.train import toy

ROWS = range(200)


@dataclass(frozen=True)
class Numbered(Source):
    """Each example is its number, twice among the labels."""

    def open(self) -> Reader:
        return _Numbers()


class _Numbers(Reader):
    labels, fingerprint = {}, 'numbers'

    def __len__(self):
        return len(ROWS)

    def read(self, rows):
        return [{'x': row, 'label': row, 'label/again': row, 'labelled': row} for row in rows]


def test_values_go_to_other_examples_together():
    reader = Permuted(Numbered(), ('label',)).open()
    examples = reader.read(ROWS)
    moved = [example['label'] for example in examples]
    assert sorted(moved) == list(ROWS) and sum(i == j for i, j in enumerate(moved)) < 10
    for row, example in enumerate(examples):
        assert example == {'x': row, 'label': moved[row], 'label/again': moved[row], 'labelled': row}
    assert reader[7] == examples[7]
    other = Permuted(Numbered(), ('label',), seed=1).open()
    assert [example['label'] for example in other.read(ROWS)] != moved
    assert len({Numbered().open().fingerprint, reader.fingerprint, other.fingerprint}) == 3


def test_labels_keep_their_shares():
    plain, permuted = toy.Toy(200).open(), Permuted(toy.Toy(200), ('answer',)).open()
    assert permuted.labels == plain.labels
    old, new = (np.array([int(x['answer']) for x in reader.read(ROWS)]) for reader in (plain, permuted))
    assert np.array_equal(np.bincount(old), np.bincount(new)) and abs((old == new).mean() - 0.5) < 0.15


def test_a_field_that_is_not_there_is_told_at_once():
    with pytest.raises(UserError, match="has no 'anser'"):
        Permuted(toy.Toy(200), ('anser',)).open()
