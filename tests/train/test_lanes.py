"""Lanes beside runs: the same numbers, whatever trains together."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mmjax.decoders.classification import LogitSum
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.optim import AdamW, WarmupConstant, WarmupCosine
from mmjax.train.lanes import Lanes, with_peak
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.resume import restore
from mmjax.train.run import train
from tests.train import toy

SEEDS, PEAKS = (0, 7, 3), (3e-3, 1e-3, 6e-3)


def small() -> Model:
    """Dropout, and little to compile."""
    block = Block(attention=Attention(heads=2), dropout=0.1)
    encoders = {
        'image': PatchEncoder(width=8, patch=4, depth=0),
        'text': TokenEncoder(vocabulary=toy.WORDS.size, width=8, depth=0),
    }
    return Model(encoders=encoders, fusion=Early(depth=1, block=block), decoders={'answer': LogitSum(classes=2)})


def experiments(**changes):
    base = toy.experiment(**{'model': small(), **changes})
    return [with_peak(dataclasses.replace(base, seed=seed), peak) for seed, peak in zip(SEEDS, PEAKS, strict=True)]


def lanes(given):
    return Lanes(given[0], shapes_of_batch(given[0]), given[0].mesh.build(jax.devices()[:1]))


@pytest.fixture(scope='module')
def trained():
    given = experiments(optim=AdamW(schedule=WarmupCosine(warmup=5, end=1e-5), ema=0.9, decay=0.01))
    program = lanes(given)
    return given, [program.train([experiment])[0] for experiment in given], program.train(given)


def test_a_lane_is_the_run_of_its_seed_and_rate(tmp_path, trained):
    """`train` on 8 devices, another program."""
    given, alone, _ = trained
    i = 2
    train(given[i], workdir=str(tmp_path), report=False)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').open()]
    np.testing.assert_allclose(alone[i].curve['loss'], [row['loss'] for row in rows], rtol=1e-5)
    mesh = given[i].mesh.build()
    state = restore(str(tmp_path), given[i], mesh, shapes_of_batch(given[i]))
    close(alone[i].params, jax.device_get(state.evaluated))


def test_side_by_side_gives_the_same_numbers(trained):
    _, alone, together = trained
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.curve['loss'], other.curve['loss'], rtol=1e-5)
        close(one.params, other.params)
    assert not np.allclose(alone[0].curve['loss'], alone[1].curve['loss'], rtol=1e-3)


def close(a, b):
    """But for the biases of keys: softmax does not feel them, so that their gradient is rounding, which Adam scales."""
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if [key.key for key in path[-2:]] != ['key', 'bias']:
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_a_lane_that_diverges_stays_where_it_was_finite():
    """Its score is that of its last finite state; its neighbour goes on."""
    given = experiments(optim=AdamW(schedule=WarmupConstant(warmup=0), clip=0.0, ema=0.0))
    wild = with_peak(given[0], 1e30)
    bad, good = lanes(given).train([wild, given[1]])
    assert bad.diverged and 0 < bad.last_finite < wild.steps
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(bad.params))
    shorter = dataclasses.replace(wild, steps=bad.last_finite)
    (same,) = lanes([shorter]).train([shorter])
    assert not same.diverged
    for x, y in zip(jax.tree.leaves(bad.params), jax.tree.leaves(same.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3)
    assert not good.diverged and good.last_finite == given[1].steps


def test_another_experiment_is_refused():
    given = experiments()
    with pytest.raises(AssertionError):
        lanes(given).train([dataclasses.replace(given[0], batch_size=8)])
