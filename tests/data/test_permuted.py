"""Permuted fields: the same values, of other examples, by the run's seed."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from mmjax.data import Data, Reader, Source, train_batches
from mmjax.data.permuted import Permuted
from mmjax.errors import UserError
from mmjax.train.lanes import Lanes
from mmjax.train.prepare import shapes_of_batch
from tests.data import streams
from tests.train import toy
from tests.train.test_lanes import small

ROWS = 200


@dataclass(frozen=True)
class Numbered(Source):
    """Each example is its number, twice among the labels."""

    def open(self) -> Reader:
        return _Numbers()


class _Numbers(Reader):
    labels, fingerprint = {}, 'numbers'

    def __len__(self):
        return ROWS

    def read(self, rows):
        return [{'x': row, 'label': row, 'label/again': row, 'labelled': row} for row in rows]


def givers(stream, *, seed, epoch=0):
    """By row, whose label it has."""
    examples = stream.examples(range(epoch * ROWS, (epoch + 1) * ROWS), seed=seed)
    for x in examples:
        row, giver = x['index'], x['label']
        assert x == {'index': row, 'x': row, 'label': giver, 'label/again': giver, 'labelled': row}
    return {int(x['index']): x['label'] for x in examples}


def test_values_go_to_other_examples_together_and_stay_there():
    stream = Permuted(Data(Numbered()), ('label',)).open()
    moved = givers(stream, seed=3)
    assert sorted(moved) == sorted(moved.values()) == list(range(ROWS))
    assert sum(row == giver for row, giver in moved.items()) < 10
    assert givers(stream, seed=3, epoch=1) == moved


def test_every_seed_has_its_own_permutation():
    stream = Permuted(Data(Numbered()), ('label',)).open()
    first, second = (givers(stream, seed=seed) for seed in (0, 1))
    assert sum(first[row] == second[row] for row in range(ROWS)) < 10


def test_it_is_none_of_the_orders_in_which_examples_come():
    """Else an epoch's labels would be those of a neighbour in the stream."""
    data = Data(Numbered())
    moved = givers(Permuted(data, ('label',)).open(), seed=3)
    for epoch in range(3):
        order = [int(x['index']) for x in data.open().examples(range(epoch * ROWS, (epoch + 1) * ROWS), seed=3)]
        assert sum(moved[place] == row for place, row in enumerate(order)) < 10


def test_the_order_of_the_inputs_is_that_of_the_data():
    data = dataclasses.replace(toy.data(), workers=0)
    plain, permuted = data.open(), Permuted(data, ('answer',)).open()
    assert permuted.labels == plain.labels and len(permuted) == len(plain)
    assert permuted.fingerprint != plain.fingerprint
    for a, b in zip(plain.examples(range(20), seed=1), permuted.examples(range(20), seed=1), strict=True):
        assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a if name != 'answer')


def test_batches_do_not_depend_on_processes_or_the_start():
    data = Permuted(toy.data(), ('answer',))
    whole = streams.take(data, 4, size=8)
    for other in (streams.take(data, 4, size=8, processes=2), streams.take(data, 2, size=8, start=2)):
        for a, b in zip(whole[-len(other) :], other, strict=True):
            assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


class Given(Exception):
    """Carries a batch out of a program of several runs, of which nothing is compiled."""


def test_lanes_of_several_seeds_have_labels_of_their_own(monkeypatch):
    """What one program of several runs is given at its first step."""

    def give(batch, mesh, leading):
        raise Given(batch)

    monkeypatch.setattr('mmjax.train.lanes.place_batch', give)
    monkeypatch.setattr(Lanes, 'begin', lambda self, experiments: (None, None))
    experiment = toy.experiment(model=small(), data=Permuted(toy.data(), ('answer',)), steps=1, evals={})
    runs = [dataclasses.replace(experiment, seed=seed) for seed in (0, 1)]
    with pytest.raises(Given) as given:
        Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build()).train(runs)
    (batch,) = given.value.args
    for lane, run in enumerate(runs):
        alone = next(train_batches(run.data, batch_size=run.batch_size, seed=run.seed))
        assert all(np.array_equal(alone[name], batch[name][lane]) for name in alone)


def test_workers_are_its_own():
    with pytest.raises(UserError, match='set workers of permuted'):
        Permuted(dataclasses.replace(toy.data(), workers=1), ('answer',))


def test_a_field_that_is_not_there_is_told_at_once():
    with pytest.raises(UserError, match="have no 'anser'"):
        Permuted(toy.data(), ('anser',)).open()
