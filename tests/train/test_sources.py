"""What a step tells of a mixture and of packed rows."""

import dataclasses
import functools
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.data import Mixture, train_batches
from mmjax.decoders.classification import LogitSum
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.experiment import Log
from mmjax.fusion.late import Late
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.paths import flat
from mmjax.train.report_plots import plots
from mmjax.train.run import train
from mmjax.train.sources import token_shares
from mmjax.train.state import create_state
from mmjax.train.step import gradients, source_gradient, train_step
from mmjax.views.mined import HardNegatives
from tests.train import toy
from tests.train.test_packed import PACKED
from tests.train.test_packed import experiment as of_stories

LONG = dataclasses.replace(toy.data(rows=30, random=True), source=toy.Toy(30))
MIXED = Mixture({'all': toy.data(random=True), 'few': LONG, 'none': LONG}, {'all': 2.0, 'few': 1.0, 'none': 0.0})


def first(data):
    stream = train_batches(data, batch_size=12, seed=0)
    (batch,) = itertools.islice(stream, 1)
    stream.close()
    return batch


def step(experiment, batch):
    """The metrics of the first step, and the parameters before it."""
    state = toy.drawn(experiment, batch)
    _, metrics = jax.jit(functools.partial(train_step, experiment=experiment))(state, batch)
    return {name: float(value) for name, value in metrics.items()}, state.params


def test_losses_and_tokens_of_a_mixture_by_source_and_modality():
    """Against the outputs of the model and counts of the batch; and the same in three parts."""
    experiment = toy.experiment(
        model=toy.model().clone(fusion=Late(depth=0)), data=MIXED, objectives={'answer': CrossEntropy(scale=2.0)}
    )
    batch = jax.tree.map(jnp.asarray, first(MIXED))
    metrics, params = step(experiment, batch)
    losses = 2 * CrossEntropy()(experiment.model.apply({'params': params}, batch), batch)
    rows = {name: np.asarray(batch['source']) == number for number, name in enumerate(MIXED.sources)}
    assert rows['all'].sum() == 8 and rows['few'].sum() == 4
    for name in ('all', 'few'):
        np.testing.assert_allclose(metrics[f'loss/answer/{name}'], losses[rows[name]].mean(), rtol=1e-5)
    assert math.isnan(metrics['loss/answer/none']) and math.isfinite(metrics['loss'])
    whole = (8 * metrics['loss/answer/all'] + 4 * metrics['loss/answer/few']) / 12
    np.testing.assert_allclose(whole, metrics['loss/answer'], rtol=1e-5)

    tokens = {'image': 4 * batch['image/present'], 'text': (batch['text'] > 0).sum(axis=1) * batch['text/present']}
    total = sum(count.sum() for count in tokens.values())
    assert 0 < batch['text/present'].sum() + batch['image/present'].sum() < 24
    for name, count in tokens.items():
        np.testing.assert_allclose(metrics[f'tokens/{name}'], count.sum() / total, rtol=1e-6)
    for name, own in rows.items():
        share = sum(count[own].sum() for count in tokens.values()) / total
        np.testing.assert_allclose(metrics[f'tokens_of/{name}'], share, rtol=1e-6)
    assert not any(name.startswith('fill') for name in metrics)

    parts, _ = step(dataclasses.replace(experiment, optim=dataclasses.replace(experiment.optim, accumulate=3)), batch)
    assert parts.keys() == metrics.keys()
    for name in metrics:
        np.testing.assert_allclose(parts[name], metrics[name], rtol=2e-5, atol=1e-6, err_msg=name)


def with_pairs(**objectives):
    """Two towers, whose losses compare rows with one another."""
    model = toy.model().clone(
        fusion=Late(depth=0),
        decoders={
            'answer': LogitSum(classes=2),
            'match': LogitSum(classes=2),
            'image': Embedded(streams=('image',), width=8),
            'text': Embedded(streams=('text',), width=8),
            'temperature': Temperature(),
        },
    )
    mixed = Mixture({'all': toy.data(), 'few': toy.data(rows=30)}, {'all': 2.0, 'few': 1.0})
    return toy.experiment(model=model, data=mixed, objectives={'answer': CrossEntropy(), **objectives})


CLIP = ContrastiveSoftmax(outputs=('image', 'text'))
HARD = CrossEntropy(output='match', target='match', view=HardNegatives())


@pytest.mark.parametrize(
    ('made', 'parts'),
    [(with_pairs(), 3), (with_pairs(pairs=CLIP), 3), (with_pairs(pairs=CLIP, match=HARD), 1)],
    ids=['rows', 'pairs', 'mined'],
)
def test_gradients_of_sources_sum_to_that_of_the_batch(made, parts):
    made = dataclasses.replace(made, optim=dataclasses.replace(made.optim, accumulate=parts))
    batch = jax.tree.map(jnp.asarray, first(made.data))
    state = toy.drawn(made, batch)
    compute = jax.jit(lambda source: gradients(state, batch, experiment=made, source=source)[0])
    of_each = [compute(jnp.asarray(number)) for number in range(2)]
    whole, metrics, _ = jax.jit(lambda: gradients(state, batch, experiment=made))()
    for path, expected in flat(whole).items():
        found = sum(np.asarray(flat(one)[path]) for one in of_each)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=path)
    assert all(float(optax.tree.norm(one)) > 0 for one in of_each)
    for name in made.objectives:
        assert {f'loss/{name}/all', f'loss/{name}/few'} <= metrics.keys()


def test_the_gradient_of_a_source_against_that_of_its_own_losses():
    experiment = toy.experiment(model=toy.model(dropout=0.0).clone(fusion=Late(depth=0)), data=MIXED)
    batch = jax.tree.map(jnp.asarray, first(MIXED))
    state = toy.drawn(experiment, batch)

    def loss(params, chosen):
        losses = CrossEntropy()(experiment.model.apply({'params': params}, batch), batch)
        return jnp.where(chosen, losses, 0).sum() / 12

    norm = jax.jit(functools.partial(source_gradient, experiment=experiment))
    for number in range(3):
        expected = optax.tree.norm(jax.grad(loss)(state.params, batch['source'] == number))
        np.testing.assert_allclose(norm(state, batch, number), expected, rtol=1e-5)
    assert not expected


def test_a_run_logs_them(tmp_path):
    made = toy.experiment(data=MIXED, steps=4, evals={}, log=Log(every=2, tensorboard=False, source_gradients=True))
    train(made, workdir=str(tmp_path / 'run'), report=False)
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [2, 4] and all(row['grad_norm_of/all'] > 0 for row in rows)
    assert all(row['grad_norm_of/none'] == 0 for row in rows)
    with pytest.raises(UserError, match=r'log.source_gradients: the data are no Mixture'):
        dataclasses.replace(made, data=toy.data()).check()


def test_packed_rows_tell_how_full_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    batch = first(PACKED)
    experiment = of_stories(PACKED)
    metrics, _ = step(dataclasses.replace(experiment, model=experiment.model.clone(fusion=Late(depth=0))), batch)
    np.testing.assert_allclose(metrics['fill/text'], (batch['text'] > 0).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics['fill/image'], batch['image/present'].mean(), rtol=1e-6)
    assert not any('tokens_of' in name or name.startswith('loss/next/') for name in metrics)
    assert metrics['tokens/text'] + metrics['tokens/image'] == pytest.approx(1)


def test_counting_tokens_computes_no_encoder():
    """What is not used of the encoders is left out: some additions are left, of a million operations."""
    experiment = toy.experiment(
        model=toy.model().clone(encoders={'text': TokenEncoder(vocabulary=4, width=64, depth=1)}), data=MIXED
    )
    batch = first(MIXED)
    params = jax.eval_shape(lambda: create_state(experiment, batch)).params

    def flops(function):
        return jax.jit(function).lower(params, batch).compile().cost_analysis()['flops']

    assert flops(lambda params, batch: token_shares(experiment, params, batch)) < 1000
    encode = functools.partial(experiment.model.apply, method='encode')
    assert flops(lambda params, batch: encode({'params': params}, batch)['text'].values) > 1e6


def test_the_report_draws_the_shares():
    rows = [{'step': step, 'loss': 1.0, 'tokens/text': 0.7, 'tokens_of/a': 0.5, 'fill/text': 0.9} for step in (1, 2)]
    assert any(plot.title.startswith('Tokens') for plot in plots(rows, [], evals=()))
