"""The train step: the same numbers on any mesh and in any number of parts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import train_batches
from mmjax.decoders.classification import LogitSum
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.fusion.late import Late
from mmjax.objectives.contrastive import ContrastiveSigmoid, ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.objectives.masked import MaskedTokens
from mmjax.optim import AdamW, WarmupConstant
from mmjax.sharding import MeshShape, place_batch
from mmjax.train.passes import cast
from mmjax.train.state import abstract_state, create_state
from mmjax.train.step import train_step
from mmjax.views.masked import MaskedText
from tests.train import toy

STEPS = 4


@functools.cache
def batches():
    stream = train_batches(toy.experiment().data, batch_size=16, seed=0)
    return [next(stream) for _ in range(STEPS)]


def run(experiment, *, mesh_shape=None, devices=1, start=None):
    """Losses and last state of STEPS steps, from `start`, else a fresh state."""
    mesh = (mesh_shape or MeshShape(data=1)).build(jax.devices()[:devices])
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(experiment, batches()[0], mesh))
    step = jax.jit(functools.partial(train_step, experiment=experiment))
    rows = []
    with jax.set_mesh(mesh):
        create = jax.jit(functools.partial(create_state, experiment, batches()[0]), out_shardings=shardings)
        state = create() if start is None else jax.device_put(start, shardings)
        for batch in batches():
            state, metrics = step(state, place_batch(batch, mesh))
            rows.append({name: float(value) for name, value in metrics.items()})
    return rows, state


@functools.cache
def reference():
    return run(toy.experiment())


@pytest.mark.parametrize(
    'shape', [{'data': 8}, {'data': 2, 'fsdp': 4}, {'fsdp': 4, 'tensor': 2}, {'data': 2, 'fsdp': 2, 'tensor': 2}]
)
def test_every_mesh_gives_the_losses_of_one_device(shape):
    """With dropout and modality dropout on: draws do not depend on the mesh either."""
    shape = MeshShape(**({'data': 1} | shape))
    rows, state = run(toy.experiment(), mesh_shape=shape, devices=8)
    for row, expected in zip(rows, reference()[0], strict=True):
        assert row.keys() == expected.keys()
        np.testing.assert_allclose(row['loss'], expected['loss'], rtol=1e-5)
        np.testing.assert_allclose(row['grad_norm'], expected['grad_norm'], rtol=1e-4)
    kernel = state.params['fusion']['stack']['layers']['feed_forward']['up']['kernel']
    assert kernel.addressable_shards[0].data.size * shape.fsdp * shape.tensor == kernel.size
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert moments and all(x.sharding.is_equivalent_to(kernel.sharding, kernel.ndim) for x in moments)


def without_dropout(**changes):
    return toy.experiment(model=toy.model(dropout=0.0), **changes)


def rows_whole_and_in_parts(make, devices):
    """Metrics of `make()` in one pass on one device, after a check that four parts of each batch give the same."""
    start = toy.drawn(make(), batches()[0])
    whole, _ = run(make(), start=start)
    optim = dataclasses.replace(toy.experiment().optim, accumulate=4)
    parts, _ = run(make(optim=optim), mesh_shape=MeshShape(), devices=devices, start=start)
    for row, expected in zip(parts, whole, strict=True):
        for name in expected:
            np.testing.assert_allclose(row[name], expected[name], rtol=2e-5, atol=1e-6, err_msg=name)
    return whole


@pytest.mark.parametrize('devices', [1, 4])
def test_accumulation_gives_the_gradient_of_the_whole_batch(devices):
    rows_whole_and_in_parts(without_dropout, devices)


SIGMOID, SOFTMAX = (
    loss(outputs=('image_vector', 'text_vector'), scale=0.5) for loss in (ContrastiveSigmoid, ContrastiveSoftmax)
)


def two_towers(pairs=SIGMOID, **changes):
    """Contrastive, beside losses that couple no rows: of examples, and of masked tokens, whose number differs."""
    model = toy.model().clone(
        fusion=Late(depth=0),
        decoders={
            'answer': LogitSum(classes=2),
            'image_vector': Embedded(streams=('image',), width=8),
            'text_vector': Embedded(streams=('text',), width=8),
            'temperature': Temperature(scale=5.0, bias=-2.0),
            'words': TokenLogits(vocabulary=toy.WORDS.size),
        },
    )
    objectives = {
        'answer': CrossEntropy(),
        'pairs': pairs,
        'words': MaskedTokens(output='words', view=MaskedText(toy.WORDS.size)),
    }
    return toy.experiment(model=model, objectives=objectives, **changes)


@pytest.mark.parametrize(('pairs', 'devices'), [(SIGMOID, 4), (SOFTMAX, 4), (SOFTMAX, 1)])
def test_accumulation_is_exact_where_examples_meet(pairs, devices):
    """Four parts of four rows see the pairs of all sixteen, as one pass does."""
    for row in rows_whole_and_in_parts(functools.partial(two_towers, pairs), devices):
        assert row['loss/pairs'] > 0 and row['loss/words'] > 0 and row['grad_norm/decoders_temperature'] > 0


def test_a_row_of_weight_zero_changes_nothing():
    experiment = without_dropout()
    state = toy.drawn(experiment, batches()[0])
    step = jax.jit(functools.partial(train_step, experiment=experiment))
    weight = np.ones(16, np.float32)
    weight[10:] = 0
    batch = batches()[0] | {'weight': weight}
    noise = batch | {'image': np.where((weight > 0)[:, None, None, None], batch['image'], 255).astype(np.uint8)}
    a, b = step(state, batch)[1], step(state, noise)[1]
    assert {k: float(v) for k, v in a.items()} == {k: float(v) for k, v in b.items()}
    real = {k: jnp.asarray(v[:10]) for k, v in batch.items()}
    losses = CrossEntropy()(experiment.model.apply({'params': state.params}, real, train=False), real)
    np.testing.assert_allclose(a['loss'], losses.mean(), rtol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_masters():
    rows, state = run(toy.experiment(precision='bfloat16'))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))
    for row, expected in zip(rows, reference()[0], strict=True):
        assert row['loss'] != expected['loss']
        np.testing.assert_allclose(row['loss'], expected['loss'], rtol=0.03)
    assert cast({'a': jnp.ones(2), 'b': jnp.ones(2, int)}, 'bfloat16')['a'].dtype == jnp.bfloat16


def test_moving_average_follows_its_recursion():
    experiment = toy.experiment()
    state = toy.drawn(experiment, batches()[0])
    expected = state.ema['fusion']['type_image']
    step = jax.jit(functools.partial(train_step, experiment=experiment))
    for batch in batches()[:2]:
        state, _ = step(state, batch)
        expected = 0.9 * expected + 0.1 * state.params['fusion']['type_image']
    np.testing.assert_allclose(state.evaluated['fusion']['type_image'], expected, rtol=1e-5)


def test_metrics_name_every_objective_and_modality():
    rows, _ = reference()
    assert {
        'loss',
        'loss/answer',
        'grad_norm',
        'grad_norm/image',
        'grad_norm/text',
        'grad_norm/fusion',
        'learning_rate',
    } <= rows[0].keys()
    parts = [rows[0][f'grad_norm/{name}'] for name in ('image', 'text', 'fusion', 'decoders_answer')]
    np.testing.assert_allclose(np.linalg.norm(parts), rows[0]['grad_norm'], rtol=1e-5)


def partly(*, image=0.0, depth=0, **changes):
    """A rate of the image encoder, 0 to freeze it, and half of it for the fusion."""
    model = without_dropout().model
    encoders = {**model.encoders, 'image': PatchEncoder(width=16, patch=4, depth=depth)}
    rates = {'encoders_image': image, 'fusion': 0.5}
    optim = AdamW(schedule=WarmupConstant(warmup=0), ema=0.9, rates=rates, **changes)
    return toy.experiment(model=model.clone(encoders=encoders), optim=optim)


@functools.cache
def compiled(image):
    """A state, what one step makes of it, its metrics, and the floating-point operations that the compiler counts."""
    experiment = partly(image=image, depth=1)
    state = toy.drawn(experiment, batches()[0])
    step = jax.jit(functools.partial(train_step, experiment=experiment)).lower(state, batches()[0]).compile()
    new, metrics = step(state, batches()[0])
    return state, new, metrics, step.cost_analysis()['flops']


@pytest.mark.parametrize('rate', [0.0, 1.0])
def test_what_is_frozen_keeps_its_bits_and_has_no_moments(rate):
    state, new, metrics, _ = compiled(rate)
    for part, before in state.params.items():
        same = [np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (before, new.params[part])), strict=True)]
        assert all(same) if part == 'encoders_image' and not rate else not all(same), part
    stays = [np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (state.params, new.params)), strict=True)]
    assert any(stays) == (not rate)
    assert bool(metrics['grad_norm/image']) == bool(rate)
    held = [tree for part, tree in new.params.items() if rate or part != 'encoders_image']
    moments = sum(x.size for x in jax.tree.leaves(new.opt_state) if x.ndim)
    assert moments == 2 * sum(x.size for x in jax.tree.leaves(held))
    average = zip(*map(jax.tree.leaves, (state.ema['encoders_image'], new.ema['encoders_image'])), strict=True)
    assert all(np.array_equal(*pair) for pair in average) == (not rate)


def test_what_is_frozen_has_no_backward_pass():
    """16 images of 4 tokens pass through the matrices of one layer; backwards each is multiplied twice."""
    layer = 2 * 16 * 4 * 16 * (4 * 16 + 2 * 64)
    assert compiled(1.0)[-1] - compiled(0.0)[-1] > 1.9 * layer


def test_accumulation_where_a_part_is_frozen():
    """In four parts on 2 x 2 devices, with what the compiler makes of them, as in one pass."""
    before, whole, expected, _ = compiled(0.0)
    experiment = partly(depth=1, accumulate=4)
    mesh = MeshShape(data=1, fsdp=2, tensor=2).build(jax.devices()[:4])
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(experiment, batches()[0], mesh))
    with jax.set_mesh(mesh):
        step = jax.jit(functools.partial(train_step, experiment=experiment), out_shardings=(shardings, None))
        new, metrics = step(jax.device_put(before, shardings), place_batch(batches()[0], mesh))
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    for x, y in zip(jax.tree.leaves(new.opt_state), jax.tree.leaves(whole.opt_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    kernel = new.params['fusion']['stack']['layers']['feed_forward']['up']['kernel']
    moments = [x for x in jax.tree.leaves(new.opt_state) if x.shape == kernel.shape]
    assert len(moments) == 2 and all(x.sharding.is_equivalent_to(kernel.sharding, kernel.ndim) for x in moments)
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size


def test_a_part_may_be_frozen_where_examples_meet():
    """Both ways to accumulate take gradients of what trains alone; nothing is compiled here."""
    optim = dataclasses.replace(toy.experiment().optim, accumulate=4, rates={'encoders_image': 0.0})
    experiment = two_towers(optim=optim)
    state = jax.eval_shape(functools.partial(create_state, experiment, batches()[0]))
    new, metrics = jax.eval_shape(functools.partial(train_step, experiment=experiment), state, batches()[0])
    assert jax.tree.map(lambda x: x.shape, new) == jax.tree.map(lambda x: x.shape, state) and 'loss/pairs' in metrics
