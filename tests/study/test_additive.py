"""The additive projection: against least squares, and on models whose answer is known."""

import jax
import numpy as np
import pytest

from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation
from mmjax.study.additive import Additive, project, sampled
from mmjax.train.prepare import shapes_of_batch
from tests.train import toy
from tests.train.test_lanes import small


def test_it_is_the_nearest_additive_table():
    """By least squares over all pairs of the examples, with a column for each value of a and of b."""
    rng = np.random.default_rng(0)
    of_a, of_b = np.r_[np.arange(5), rng.integers(5, size=7)], np.r_[np.arange(4), rng.integers(4, size=8)]
    table = rng.normal(size=(5, 4, 3))
    left, right = np.meshgrid(of_a, of_b, indexing='ij')
    design = np.concatenate([np.eye(5)[left.ravel()], np.eye(4)[right.ravel()]], axis=1)
    weights = np.linalg.lstsq(design, table[left.ravel(), right.ravel()], rcond=None)[0]
    expected = np.concatenate([np.eye(5)[of_a], np.eye(4)[of_b]], axis=1) @ weights
    np.testing.assert_allclose(project(table, [of_a, of_b]), expected, atol=1e-10)


def test_of_three_modalities_it_is_nearest_too():
    rng = np.random.default_rng(2)
    places = [np.r_[np.arange(n), rng.integers(n, size=6 - n)] for n in (3, 2, 4)]
    table = rng.normal(size=(3, 2, 4, 2))
    combined = [x.ravel() for x in np.meshgrid(*places, indexing='ij')]
    design = np.concatenate([np.eye(n)[own] for n, own in zip((3, 2, 4), combined, strict=True)], axis=1)
    weights = np.linalg.lstsq(design, table[tuple(combined)], rcond=None)[0]
    own = np.concatenate([np.eye(n)[at] for n, at in zip((3, 2, 4), places, strict=True)], axis=1)
    np.testing.assert_allclose(project(table, places), own @ weights, atol=1e-10)


def test_an_additive_table_is_its_own_projection():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(6, 1, 2)) + rng.normal(size=(1, 3, 2))
    of_a, of_b = rng.integers(6, size=9), rng.integers(3, size=9)
    np.testing.assert_allclose(project(table, [of_a, of_b]), table[of_a, of_b], atol=1e-12)


def additive(fusion, rows=40, **changes):
    evals = {'test': Evaluation(toy.data(rows=rows), Accuracy())}
    experiment = toy.experiment(evals=evals, model=small().clone(fusion=fusion), **changes)
    return experiment, Additive(experiment, evals['test'].data, examples=rows, output='answer', target='answer')


@pytest.mark.parametrize('name', ['late', 'early'])
def test_of_a_whole_model(name):
    """The model's own answers are those of its evaluation; without flow the projection gives the same ones."""
    from mmjax.fusion.early import Early
    from mmjax.fusion.late import Late
    from mmjax.train.lanes import Lanes

    experiment, project_ = additive(Late(depth=1) if name == 'late' else Early(depth=1), steps=60)
    lanes = Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build(jax.devices()[:1]))
    (lane,) = lanes.train([experiment])
    _, columns = lanes.scorer.score(experiment.evals['test'], lane.params)
    found = project_(lane.params)
    np.testing.assert_array_equal(found.model, columns['predicted'] == columns['target'])
    if name == 'late':
        np.testing.assert_array_equal(found.projection, found.model)
    else:
        assert found.model.mean() > found.projection.mean() + 0.2  # an exclusive or


def test_sampled_rows():
    assert sampled(5, 100).tolist() == [0, 1, 2, 3, 4] and sampled(101, 3).tolist() == [0, 50, 100]
