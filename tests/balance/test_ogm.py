"""Gradient modulation against NumPy, on gradients of its own and in the train step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from mmjax import config
from mmjax.balance.base import NO_BALANCE
from mmjax.balance.ogm import GradientModulation, modulation
from mmjax.data import train_batches
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.fusion.late import Late
from mmjax.sharding import MeshShape, place_batch
from mmjax.study.remedies import modulated, with_heads
from mmjax.train.state import abstract_state, create_state
from mmjax.train.step import train_step
from tests.train import toy

NAMES = {'image': 'a', 'text': 'b'}
OGM = GradientModulation(outputs=NAMES, alpha=0.4, noise=False)
KEY, STEP = jax.random.key(3), jnp.asarray(5)


def grads(seed=0):
    rng = np.random.default_rng(seed)

    def one(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    return {
        'encoders_image': {'kernel': one(40, 50), 'deep': {'bias': 3 * one(2000)}},
        'encoders_text': {'kernel': one(7, 5)},
        'fusion': {'kernel': one(3, 3)},
    }


def tally(image, text, rows=4.0):
    sums = {'score_image': image, 'score_text': text, 'rows_image': rows, 'rows_text': rows}
    return {name: jnp.asarray(value, jnp.float32) for name, value in sums.items()}


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: (np.asarray(x) == np.asarray(y)).all(), a, b))


def test_the_stronger_encoder_alone_is_scaled_and_by_k():
    before = grads()
    after, metrics = OGM(before, tally(3.0, 1.5), key=KEY, step=STEP)
    k = np.float32(1 - np.tanh(0.4 * 2))
    assert metrics['balance/k_image'] == pytest.approx(k, rel=1e-6) and metrics['balance/k_text'] == 1
    assert metrics['balance/score_image'] == 0.75 and metrics['balance/score_text'] == 0.375
    expected = jax.tree.map(lambda g: metrics['balance/k_image'] * g, before['encoders_image'])
    assert equal(after['encoders_image'], expected)
    assert equal(after['encoders_text'], before['encoders_text']) and equal(after['fusion'], before['fusion'])


@pytest.mark.parametrize(('scores', 'alpha'), [((2.0, 2.0), 0.4), ((0.0, 0.0), 0.4), ((3.0, 1.0), 0.0)])
def test_equals_are_left_alone_and_all_are_where_alpha_is_0(scores, alpha):
    ogm = dataclasses.replace(OGM, alpha=alpha)
    assert equal(ogm(grads(), tally(*scores), key=KEY, step=STEP)[0], grads())


def test_three_modalities_and_one_that_no_row_has():
    scores, there = np.array([0.9, 0.3, 0.5], np.float32), np.array([True, True, True])

    def expected(scores, there, alpha=0.7):
        k = []
        for u in range(3):
            others = [scores[v] for v in range(3) if v != u and there[v]]
            ratio = scores[u] / np.mean(others) if others and there[u] else 0
            k.append(1 - np.tanh(alpha * ratio) if ratio > 1 else 1)
        return k

    for there in ([True] * 3, [True, False, True], [False, True, True], [True, False, False]):
        found = modulation(jnp.asarray(scores), jnp.asarray(there), alpha=0.7)
        np.testing.assert_allclose(found, expected(scores, there), rtol=1e-6)
    assert (np.asarray(modulation(jnp.asarray(scores), jnp.asarray([True, False, False]), alpha=0.7)) == 1).all()


def test_a_score_that_vanishes_stops_the_other_encoder_without_a_nan():
    after, metrics = OGM(grads(), tally(1.0, 0.0), key=KEY, step=STEP)
    assert metrics['balance/k_image'] == 0 and metrics['balance/k_text'] == 1
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(after))


def test_noise_has_the_spread_of_each_array_before_k():
    before = grads()
    after, metrics = dataclasses.replace(OGM, noise=True)(before, tally(3.0, 1.5), key=KEY, step=STEP)
    drawn = [
        np.asarray(a - metrics['balance/k_image'] * g)
        for a, g in zip(*(jax.tree.leaves(tree['encoders_image']) for tree in (after, before)), strict=True)
    ]
    for noise, g in zip(drawn, jax.tree.leaves(before['encoders_image']), strict=True):
        assert noise.std() == pytest.approx(float(g.std()), rel=0.06) and abs(noise.mean()) < 0.1 * g.std()
    assert abs(np.corrcoef(drawn[0], drawn[1].ravel())[0, 1]) < 0.1  # each array has draws of its own
    assert not equal(after['encoders_text'], before['encoders_text']) and equal(after['fusion'], before['fusion'])
    again, _ = dataclasses.replace(OGM, noise=True)(before, tally(3.0, 1.5), key=KEY, step=STEP)
    other, _ = dataclasses.replace(OGM, noise=True)(before, tally(3.0, 1.5), key=jax.random.key(4), step=STEP)
    assert equal(after, again) and not equal(after['encoders_image'], other['encoders_image'])


@pytest.mark.parametrize(('step', 'inside'), [(2, False), (3, True), (5, True), (6, False)])
def test_steps_before_start_and_from_stop_on_are_as_they_were(step, inside):
    ogm = dataclasses.replace(OGM, noise=True, start=3, stop=6)
    after, metrics = ogm(grads(), tally(3.0, 1.5), key=KEY, step=jnp.asarray(step))
    assert equal(after, grads()) is not inside and (metrics['balance/k_image'] == 1) == (not inside)


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        'image/present': rng.random(12) < 0.7,
        'answer': rng.integers(0, 3, 12).astype(np.int32),
        'weight': (rng.random(12) < 0.8).astype(np.float32),
    }
    outputs = {name: rng.standard_normal((12, 3)).astype(np.float32) for name in 'ab'}
    return [{name: jnp.asarray(x) for name, x in part.items()} for part in (outputs, batch)]


def test_the_tally_counts_real_rows_that_have_the_modality_and_adds_up_over_parts():
    outputs, batch = batch_of()
    right = {name: softmax(np.asarray(x), axis=1)[np.arange(12), batch['answer']] for name, x in outputs.items()}
    image = np.asarray(batch['weight'] * batch['image/present'])
    expected = {
        'score_image': (right['a'] * image).sum(),
        'rows_image': image.sum(),
        'score_text': (right['b'] * np.asarray(batch['weight'])).sum(),
        'rows_text': batch['weight'].sum(),
    }
    tally = jax.jit(OGM.tally)
    found = tally(outputs, batch)
    parts = [tally(*jax.tree.map(lambda x, i=i: x[i::3], (outputs, batch))) for i in range(3)]
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5)
        assert sum(part[name] for part in parts) == pytest.approx(float(value), rel=1e-5)


@functools.cache
def batches():
    stream = train_batches(toy.data(random=True), batch_size=16, seed=0)
    return [next(stream) for _ in range(2)]


def base(**changes):
    model = toy.model().clone(
        encoders={'image': PatchEncoder(width=16, patch=4, depth=0), 'text': TokenEncoder(toy.WORDS.size, 16, depth=0)},
        fusion=Late(depth=0),
    )
    return with_heads(toy.experiment(model=model, **changes))


@functools.cache
def start():
    return jax.jit(functools.partial(create_state, base(), batches()[0]))()


def run(experiment, *, devices=1):
    """Metrics of two steps."""
    mesh = MeshShape(data=1, fsdp=devices).build(jax.devices()[:devices])
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(lambda x: x.sharding, abstract_state(experiment, batches()[0], mesh))
        state = jax.device_put(start(), shardings)
        step = jax.jit(functools.partial(train_step, experiment=experiment))
        rows = []
        for batch in batches():
            state, metrics = step(state, place_batch(batch, mesh))
            rows.append({name: float(value) for name, value in metrics.items()})
    return rows


def test_before_start_a_step_is_the_same_in_every_bit_and_then_the_stronger_encoder_is_held_back():
    before, rest = run(base())
    first, row = run(modulated(base(), alpha=0.5, noise=False, start=1))
    assert {name: value for name, value in first.items() if not name.startswith('balance/')} == before
    assert row['loss'] == rest['loss']
    strong, weak = sorted(('image', 'text'), key=lambda m: -row[f'balance/score_{m}'])
    k = row[f'balance/k_{strong}']
    ratio = row[f'balance/score_{strong}'] / row[f'balance/score_{weak}']
    assert k == pytest.approx(1 - np.tanh(0.5 * ratio), rel=1e-5) and row[f'balance/k_{weak}'] == 1
    assert row[f'grad_norm/{strong}'] == pytest.approx(k * rest[f'grad_norm/{strong}'], rel=1e-5)
    for name in (weak, 'decoders_answer', 'decoders_answer_image'):
        assert row[f'grad_norm/{name}'] == pytest.approx(rest[f'grad_norm/{name}'], rel=1e-6)
    assert row['param_norm'] != rest['param_norm']


def test_the_cut_of_the_batch_changes_neither_k_nor_noise():
    """Eight devices and two parts of the batch against one of each."""
    experiment = modulated(base(), alpha=0.5)
    optim = dataclasses.replace(experiment.optim, accumulate=2)
    rows = run(dataclasses.replace(experiment, optim=optim), devices=8)
    for row, expected in zip(rows, run(experiment), strict=True):
        assert row.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_it_is_part_of_the_config_and_none_of_it_is_no_part_of_the_hash():
    experiment = modulated(base(), alpha=0.5)
    assert config.load(config.dump(experiment), trust=('tests',)).balance == experiment.balance
    dumped = {name: value for name, value in config.dump(base()).items() if name != 'balance'}
    old = config.load(dumped, trust=('tests',))
    assert old.balance == NO_BALANCE and config.config_hash(old) == config.config_hash(base())
    assert config.config_hash(experiment) != config.config_hash(base())
    typed = ['balance=gradient_modulation', '--balance.alpha', '0.5']
    typed += ['--balance.outputs', 'image', 'answer_image', 'text', 'answer_text']
    assert config.override(base(), typed).balance == experiment.balance


def test_errors_name_what_is_wrong():
    outputs, batch = batch_of()
    with pytest.raises(UserError, match='two modalities or more'):
        GradientModulation(outputs={'image': 'a'}, alpha=0.1)
    with pytest.raises(UserError, match='stop comes after start'):
        dataclasses.replace(OGM, start=3, stop=3)
    with pytest.raises(UserError, match="no output 'a'"):
        OGM.tally({'b': outputs['b']}, batch)
    with pytest.raises(UserError, match="no field 'anwser'; did you mean 'answer'"):
        dataclasses.replace(OGM, target='anwser').tally(outputs, batch)
    with pytest.raises(UserError, match="'encoders_image'"):
        OGM({'fusion': {}}, tally(1.0, 1.0), key=KEY, step=STEP)
