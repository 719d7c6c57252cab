"""Controls and probes: that each takes away what it says, and that an ensemble's models know nothing of each other."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mmjax.config import override
from mmjax.data import train_batches
from mmjax.data.permuted import Permuted
from mmjax.data.spread import Spread
from mmjax.decoders.classification import MaskedMean
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy, EnsembleAccuracy
from mmjax.experiment import Evaluation
from mmjax.fusion.lora import LoraFusion
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupConstant
from mmjax.study.controls import controls, ensemble, seeing
from mmjax.study.probes import probes
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import create_state
from mmjax.train.step import train_step
from mmjax.views.absent import Without
from mmjax.views.base import Clean
from mmjax.views.mismatched import Mismatched
from tests.train import toy
from tests.train.test_lanes import small

AT_ONCE = AdamW(schedule=WarmupConstant(warmup=0))


def base(**changes):
    evals = {name: Evaluation(toy.data(rows=16), Accuracy()) for name in ('validation', 'test')}
    return toy.experiment(**{'model': small(), 'evals': evals, **changes})


def views(experiment):
    (objective,) = experiment.objectives.values()
    return objective.view, {evaluation.view for evaluation in experiment.evals.values()}


def test_what_each_control_sees():
    arms = {arm.name: arm for arm in controls(base())}
    assert views(arms['only_image'].base) == (Without(('text',)), {Without(('text',))})
    assert views(arms['shuffled_text'].base) == (Mismatched(('text',)), {Mismatched(('text',))})
    assert views(arms['shuffled_labels'].base) == (Clean(), {Clean()})
    assert arms['shuffled_labels'].base.data == Permuted(base().data, ('answer',))
    assert {name for name, arm in arms.items() if arm.role == 'unimodal'} == {'only_image', 'only_text'}
    assert {name for name, arm in arms.items() if arm.role == 'no_flow'} == {'isolated'}
    for arm in arms.values():
        changed = override(arm.base or base(), list(arm.overrides), prog='test')
        jax.eval_shape(lambda e=changed: create_state(e, shapes_of_batch(e)))
    larger = override(base(), list(arms['larger_mlp'].overrides), prog='test').model.fusion
    assert larger.block.mlp.ratio == 2 * small().fusion.block.mlp.ratio and not arms['larger_mlp'].matched
    longer = override(base(), list(arms['longer'].overrides), prog='test')
    assert longer == dataclasses.replace(base(), steps=2 * base().steps) and not arms['longer'].matched


@pytest.fixture(scope='module')
def state_and_batch():
    experiment = ensemble(base(optim=AT_ONCE))
    batches = train_batches(experiment.data, batch_size=experiment.batch_size, seed=0)
    batch = next(batches)
    batches.close()
    return toy.drawn(experiment, shapes_of_batch(experiment)), batch


def test_the_models_of_an_ensemble_know_nothing_of_each_other(state_and_batch):
    """One step with both losses changes what belongs to the text as one with its loss alone does, bit for bit."""
    both = ensemble(base(optim=AT_ONCE))
    alone = dataclasses.replace(both, objectives={'answer_text': both.objectives['answer_text']})
    assert both.optim.clip == 0 and both.model.inputs == ['image', 'text']
    state, batch = state_and_batch
    one, other = (
        jax.jit(functools.partial(train_step, experiment=experiment))(state, batch)[0].params
        for experiment in (both, alone)
    )
    start = dict(jax.tree_util.tree_leaves_with_path(state.params))
    same, different = 0, 0
    for (path, x), (_, y) in zip(*map(jax.tree_util.tree_leaves_with_path, (one, other)), strict=True):
        name = jax.tree_util.keystr(path)
        if 'text' in name:
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-9)
            same += not np.array_equal(x, start[path])
        else:
            different += not np.array_equal(x, y)
    assert same > 5 and different > 5


def test_an_ensemble_averages_probabilities():
    logits = np.random.default_rng(0).normal(size=(2, 6, 3)) * 3
    outputs = {'a': logits[0], 'b': logits[1]}
    each = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    columns = EnsembleAccuracy(outputs=('a', 'b')).predictions(outputs, {'answer': np.zeros(6, int)})
    np.testing.assert_array_equal(columns['predicted'], each.mean(0).argmax(-1))
    np.testing.assert_allclose(columns['probability'], each.mean(0).max(-1), rtol=1e-6)
    np.testing.assert_allclose(columns['loss'], -np.log(each.mean(0)[:, 0]), rtol=1e-6)


def test_seeing_changes_training_and_every_evaluation():
    assert views(seeing(base(), Without(('image',)))) == (Without(('image',)), {Without(('image',))})
    decoders = ensemble(base()).model.decoders
    assert all(isinstance(d, MaskedMean) and d.streams == (n.removeprefix('answer_'),) for n, d in decoders.items())


def test_probes_have_every_subset():
    names = set(probes(('a', 'b', 'c'), toy.data(), levels=(0.5,)).views)
    subsets = {'with:', 'with:a', 'with:b', 'with:c', 'with:a+b', 'with:a+c', 'with:b+c', 'with:a+b+c'}
    assert names == subsets | {f'{what}:{m}{end}' for m in 'abc' for what, end in (('shuffled', ''), ('noise', ':0.5'))}


def test_probes_that_could_not_be_read_are_told():
    whole = probes(('image', 'text'), toy.data(), levels=())
    whole.check(['image', 'text'])
    with pytest.raises(UserError, match="no view \\['with:text'\\]"):
        dataclasses.replace(whole, views={n: v for n, v in whole.views.items() if n != 'with:text'}).check(
            ['image', 'text']
        )
    three = probes(('a', 'b', 'c'), toy.data())
    with pytest.raises(UserError, match='up to 8,000,000 combinations'):
        three.check(['a', 'b', 'c'])
    dataclasses.replace(three, additive=100).check(['a', 'b', 'c'])
    with pytest.raises(UserError, match='set it to 0'):
        probes(('a',), toy.data()).check(['a'])


def test_spread_rows_are_the_same_rows():
    plain, spread = toy.Toy(rows=30).open(), Spread(toy.Toy(rows=30)).open()
    order = [next(i for i in range(30) if np.array_equal(plain[i]['image'], spread[j]['image'])) for j in range(30)]
    assert sorted(order) == list(range(30)) != order
    assert spread.labels == plain.labels and spread.fingerprint != plain.fingerprint
    again = Spread(toy.Toy(rows=30)).open().read([3, 4])
    assert np.array_equal(again[1]['image'], spread[4]['image'])


def test_an_ensemble_needs_one_classifying_objective():
    with pytest.raises(UserError, match=r"ensemble: needs one single objective, the experiment has \['a', 'b'\]"):
        ensemble(base(objectives={'a': CrossEntropy(), 'b': CrossEntropy()}))
    with pytest.raises(UserError, match="ensemble: the model has no classifier 'missing'"):
        ensemble(base(objectives={'a': CrossEntropy(output='missing')}))
    with pytest.raises(UserError, match='made as the fusion is; LoraFusion has no depth'):
        ensemble(base(model=small().clone(fusion=LoraFusion(module=small().fusion, rank=2))))
