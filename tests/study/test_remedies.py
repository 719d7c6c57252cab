"""Remedies as experiments: what they add, and what they leave."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.decoders.encoded import EncodedMean
from mmjax.encoders.learned import LearnedTokens
from mmjax.errors import UserError
from mmjax.fusion.late import Late
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.study.remedies import blended, modulated, pilots, with_heads
from tests.train import toy


def test_heads_are_one_for_each_modality_that_is_read():
    model = toy.model(classes=5)
    model = model.clone(encoders={**model.encoders, 'cls': LearnedTokens(width=16)})
    base = toy.experiment(model=model, objectives={'loss': CrossEntropy(scale=0.5, smoothing=0.1)})
    found = with_heads(base, scale=0.4, detached=True)
    assert list(found.model.decoders) == ['answer', 'loss_image', 'loss_text']
    head = found.model.decoders['loss_text']
    assert isinstance(head, EncodedMean) and head.streams == ('text',) and head.classes == 5 and head.detached
    assert found.objectives['loss'] == base.objectives['loss']
    assert found.objectives['loss_image'] == CrossEntropy(output='loss_image', scale=0.2, smoothing=0.1)
    assert found.evals == base.evals and list(base.model.decoders) == ['answer']
    found.check()
    assert config.load(config.dump(found), trust=('tests',)) == found


def test_heads_change_no_output_of_the_model(batch, random_parameters):
    base = toy.experiment(model=toy.model().clone(fusion=Late(depth=0)))
    model = with_heads(base).model
    small = {'image': batch['image'], 'text': batch['text'] % toy.WORDS.size}
    params = random_parameters(model, small)
    apply = jax.jit(lambda batch: model.apply(params, batch))
    outputs = apply(small)
    assert set(outputs) == {'answer', 'answer_image', 'answer_text'}
    own = {k: v for k, v in params['params'].items() if k not in ('decoders_answer_image', 'decoders_answer_text')}
    plain = jax.jit(lambda batch: base.model.apply({'params': own}, batch))(small)
    np.testing.assert_allclose(outputs['answer'], plain['answer'], rtol=1e-6)
    other = {**small, 'image': jnp.zeros_like(small['image'])}
    changed = apply(other)
    np.testing.assert_array_equal(changed['answer_text'], outputs['answer_text'])
    assert not np.array_equal(changed['answer_image'], outputs['answer_image'])


def test_modulation_takes_the_heads_and_their_target():
    objectives = {'kind': CrossEntropy(target='kind')}
    found = modulated(with_heads(toy.experiment(objectives=objectives)), alpha=0.3, noise=False, stop=9)
    assert found.balance.outputs == {'image': 'kind_image', 'text': 'kind_text'}
    assert (found.balance.target, found.balance.alpha, found.balance.stop) == ('kind', 0.3, 9)
    with pytest.raises(UserError, match='has no heads'):
        modulated(toy.experiment(), alpha=0.3)


def test_blending_sets_the_scales_and_nothing_else():
    base = with_heads(toy.experiment())
    weights = {'answer': 0.5, 'answer_image': 0.2, 'answer_text': 0.3}
    found = blended(base, weights)
    assert {name: objective.scale for name, objective in found.objectives.items()} == weights
    assert dataclasses.replace(found, objectives=base.objectives) == base
    assert {name: o.scale for name, o in pilots(found)['answer_text'].objectives.items()} == {'answer_text': 1.0}
    assert list(pilots(found)) == list(weights)
    with pytest.raises(UserError, match="no objective 'answer_txt'; did you mean 'answer_text'"):
        blended(base, weights | {'answer_txt': 1.0})
    with pytest.raises(UserError, match="no weight for the objective 'answer_text'"):
        blended(base, {'answer': 0.5, 'answer_image': 0.5})


def test_heads_need_one_classifying_objective():
    base = with_heads(toy.experiment())
    with pytest.raises(UserError, match='one single objective'):
        with_heads(base)
    with pytest.raises(UserError, match="decoder 'answer_image' already"):
        with_heads(dataclasses.replace(base, objectives={'answer': CrossEntropy()}))
    with pytest.raises(UserError, match="no classifier 'missing'"):
        with_heads(toy.experiment(objectives={'answer': CrossEntropy(output='missing')}))
