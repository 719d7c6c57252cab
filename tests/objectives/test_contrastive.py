"""Contrastive losses against NumPy, on one device and on eight, and what the eight hold at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from mmjax.errors import UserError
from mmjax.objectives.contrastive import ContrastiveSigmoid, ContrastiveSoftmax
from mmjax.sharding import MeshShape, place_batch
from mmjax.views.noise import Noise

B, D = 16, 6
GONE = {'image': [3, 9], 'text': [4, 9]}  # rows without the modality
FILL = [15]  # rows that only fill the batch up
LOG_SCALE, BIAS = np.log(7.0), -1.5


def vectors(seed, gone):
    x = np.random.default_rng(seed).standard_normal((B, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[gone] = 0
    return x


def case():
    outputs = {name: vectors(i, gone) for i, (name, gone) in enumerate(GONE.items())}
    outputs['temperature'] = np.tile([LOG_SCALE, BIAS], (B, 1))
    weight = np.ones(B)
    weight[FILL] = 0
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (outputs, {'weight': weight}))


def total(objective, outputs, batch):
    """The mean that the train step takes."""
    return (objective(outputs, batch) * batch['weight']).sum() / batch['weight'].sum()


def expected(kind, a, b, *, log_scale=LOG_SCALE, bias=BIAS):
    """The mean over the rows that are real and have both, each against the others of them."""
    rows = sorted(set(range(B)) - {3, 4, 9, 15})
    s = np.exp(log_scale) * a[rows] @ b[rows].T + bias
    if kind is ContrastiveSoftmax:
        return np.mean((logsumexp(s, axis=1) + logsumexp(s, axis=0)) / 2 - np.diag(s))
    sign = 2 * np.eye(len(rows)) - 1
    return np.log1p(np.exp(-sign * s)).sum(axis=1).mean()


both = pytest.mark.parametrize('kind', [ContrastiveSoftmax, ContrastiveSigmoid])


@both
def test_loss_and_gradients_are_those_of_numpy(kind):
    """Gradients by finite differences in float64."""
    outputs, batch = case()
    objective = kind(outputs=('image', 'text'))
    loss, grads = jax.jit(jax.value_and_grad(functools.partial(total, objective)))(outputs, batch)
    a, b = (np.asarray(outputs[name], np.float64) for name in GONE)
    np.testing.assert_allclose(loss, expected(kind, a, b), rtol=1e-5)
    eps = 1e-6
    for name, moved in (('image', lambda e: (a + e, b)), ('text', lambda e: (a, b + e))):
        assert not grads[name][np.array([3, 4, 9, 15])].any()
        for place in ((0, 1), (7, 5), (14, 0)):
            e = np.zeros((B, D))
            e[place] = eps
            slope = (expected(kind, *moved(e)) - expected(kind, *moved(-e))) / (2 * eps)
            np.testing.assert_allclose(grads[name][place], slope, rtol=1e-3, atol=1e-6)
    for i, field in enumerate(('log_scale', 'bias')):
        at = {'log_scale': LOG_SCALE, 'bias': BIAS}[field]
        up, down = (expected(kind, a, b, **{field: at + e}) for e in (eps, -eps))
        np.testing.assert_allclose(grads['temperature'][:, i].sum(), (up - down) / (2 * eps), rtol=1e-3, atol=1e-6)


@both
@pytest.mark.parametrize('shape', [{'data': 8}, {'data': 2, 'fsdp': 2, 'tensor': 2}])
def test_eight_devices_give_the_numbers_of_one(kind, shape):
    outputs, batch = jax.tree.map(np.asarray, case())
    program = jax.value_and_grad(functools.partial(total, kind(outputs=('image', 'text'))))
    alone, mesh = jax.jit(program)(outputs, batch), MeshShape(**shape).build()
    with jax.set_mesh(mesh):
        spread = jax.jit(program)(place_batch(outputs, mesh), place_batch(batch, mesh))
    for x, y in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@both
def test_a_device_holds_a_block_of_scores_and_never_all(kind):
    """In forward and backward pass: of 32 examples on 8 devices, blocks of 4 x 4."""
    mesh = MeshShape().build()
    b = 8 * 4
    outputs = {name: np.ones((b, D), np.float32) for name in GONE} | {'temperature': np.ones((b, 2), np.float32)}
    program = jax.value_and_grad(functools.partial(total, kind(outputs=('image', 'text'))))
    with jax.set_mesh(mesh):
        placed = place_batch(outputs, mesh), place_batch({'weight': np.ones(b, np.float32)}, mesh)
        text = jax.jit(program).lower(*placed).compile().as_text()
    assert 'f32[4,4]' in text and 'collective-permute' in text and 'all-gather' not in text
    assert not any(f'[{size}]' in text for size in ('32,32', '4,32', '32,4', '8,4,4', f'32,{D}'))


def test_of_three_modalities_it_is_the_mean_over_the_pairs():
    outputs, batch = case()
    outputs['audio'] = jnp.asarray(vectors(5, []), jnp.float32)
    names = ('image', 'text', 'audio')
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    each = [total(ContrastiveSigmoid(outputs=pair), outputs, batch) for pair in pairs]
    np.testing.assert_allclose(total(ContrastiveSigmoid(outputs=names), outputs, batch), np.mean(each), rtol=1e-6)
    outputs['audio'] = jnp.zeros_like(outputs['audio'])  # of which no example has any: one pair is left
    np.testing.assert_allclose(total(ContrastiveSigmoid(outputs=names), outputs, batch), each[0], rtol=1e-6)


def test_a_batch_of_which_nothing_has_both():
    outputs, batch = case()
    outputs['text'] = jnp.zeros_like(outputs['text'])
    for kind in (ContrastiveSoftmax, ContrastiveSigmoid):
        loss, grads = jax.value_and_grad(functools.partial(total, kind(outputs=('image', 'text'))))(outputs, batch)
        assert loss == 0 and all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_names_that_are_not_there():
    outputs, batch = case()
    with pytest.raises(UserError, match='name two embeddings or more'):
        ContrastiveSoftmax(outputs=('image',))(outputs, batch)
    with pytest.raises(UserError, match="no output of the model 'txt'; did you mean 'text'"):
        ContrastiveSoftmax(outputs=('image', 'txt'))(outputs, batch)


@both
@pytest.mark.parametrize(
    ('fields', 'told'),
    [
        ({'outputs': ('image', 'beside/image')}, 'which is the same'),
        ({'outputs': ('image', 'beside/image'), 'view': Noise(), 'beside': Noise()}, 'such as Redrawn of it'),
        ({'outputs': ('image', 'text'), 'beside': Noise()}, r"no output of Noise.* as in \('image', 'beside/image'\)"),
    ],
)
def test_a_view_that_is_compared_with_itself_or_not_at_all_is_told(kind, fields, told):
    with pytest.raises(UserError, match=told):
        kind(**fields)
