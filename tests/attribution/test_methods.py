"""Every method from an experiment and a batch; whether it depends on the parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.attribution.methods import METHODS, attribute
from mmjax.attribution.sanity import fresh_parameters, rank_correlation
from mmjax.decoders.classification import AttentionPool, LogitSum
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.fusion.early import Early
from mmjax.fusion.gated import GatedCrossAttention
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import create_state
from mmjax.train.step import predict_step
from tests.train import toy

ENCODERS = {'image': PatchEncoder(width=16, patch=4, depth=0), 'text': TokenEncoder(4, width=16, depth=0)}
MODEL = Model(ENCODERS, Early(depth=1, block=Block(attention=Attention(heads=2))), {'answer': LogitSum(classes=2)})
EXPERIMENT = toy.experiment(model=MODEL)


@pytest.fixture(scope='module')
def case(random_parameters):
    examples = [toy.ToyReader.example(row) for row in range(6)]
    text = jnp.asarray([[2 + (x['text'] == 'other'), 0, 0] for x in examples])
    batch = {'image': jnp.stack([x['image'] for x in examples]), 'text': text, 'weight': jnp.ones(6)}
    batch['text/present'] = jnp.arange(6) < 5
    return random_parameters(EXPERIMENT.model, batch)['params'], batch


@pytest.mark.parametrize('method', METHODS)
def test_shapes_and_masks(method, case):
    found, gap = attribute(method, EXPERIMENT, *case, steps=8)
    assert (gap is None) == (method != 'integrated_gradients') and (gap is None or gap.shape == (6,))
    assert {name: (x.shape, type(x)) for name, x in found.items()} == {
        'image': ((6, 4), np.ndarray),
        'text': ((6, 3), np.ndarray),
    }
    assert found['text'][:5, 0].any() and not found['text'][:, 1:].any() and not found['text'][5].any()
    assert np.isfinite(found['image']).all() and found['image'].any(axis=1).all()


def test_by_default_the_predicted_class_is_explained(case):
    predicted = jax.jit(lambda p, x: predict_step(p, x, experiment=EXPERIMENT))(*case)['answer'].argmax(-1)
    assert 0 < predicted.sum() < 6
    default, given = (
        attribute('integrated_gradients', EXPERIMENT, *case, steps=4, target=target).relevance['image']
        for target in (None, predicted)
    )
    np.testing.assert_array_equal(default, given)


def test_mistakes(case):
    with pytest.raises(UserError, match="did you mean 'rollout'"):
        attribute('rolout', EXPERIMENT, *case)
    model = dataclasses.replace(EXPERIMENT.model, fusion=GatedCrossAttention())
    with pytest.raises(UserError, match='GatedCrossAttention'):
        attribute('chefer', dataclasses.replace(EXPERIMENT, model=model), *case)
    both = EXPERIMENT.model.decoders | {'pool': AttentionPool()}
    model = dataclasses.replace(EXPERIMENT.model, decoders=both)
    with pytest.raises(UserError, match='name one'):
        attribute('rollout', dataclasses.replace(EXPERIMENT, model=model), *case)


def test_rank_correlation():
    masks = {'image': np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1]], bool), 'text': np.array([[1, 0]] * 3, bool)}
    first = {'image': np.array([[1.0, -2, 3], [1, 2, 3], [5, 5, 5]]), 'text': np.array([[4.0, 9], [4, 0], [5, 1]])}
    second = {'image': np.array([[10, 20, -30.0], [4, 3, 2], [1, 2, 3]]), 'text': np.array([[40.0, 0], [1, 7], [4, 1]])}
    np.testing.assert_allclose(rank_correlation(first, second, masks), [1, -1, 0])


def test_fresh_parameters_are_those_that_a_run_of_that_seed_starts_with():
    batch = shapes_of_batch(EXPERIMENT)
    example = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
    start = jax.jit(lambda: create_state(dataclasses.replace(EXPERIMENT, seed=5), batch).params)()
    found = fresh_parameters(EXPERIMENT, example, seed=5)
    jax.tree.map(np.testing.assert_array_equal, found, start)
