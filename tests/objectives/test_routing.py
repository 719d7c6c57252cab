"""The losses of a router against their formulas, and which way they push."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from mmjax.errors import UserError
from mmjax.objectives.routing import ExpertUse

B, LAYERS, EXPERTS = 4, 2, 5
LENGTHS = {'image': 6, 'text': 3}
WEIGHT = jnp.asarray([1.0, 1.0, 0.0, 1.0])


def told(logits):
    """[b l n e] of each modality -> [b l m 4 e], with the two likeliest experts chosen."""
    rows = []
    for x in logits:
        logs = x - jax.nn.logsumexp(x, axis=-1, keepdims=True)
        load = x >= jnp.sort(x, axis=-1)[..., -2:-1]
        z = jnp.broadcast_to(jax.nn.logsumexp(x, axis=-1, keepdims=True) ** 2 / EXPERTS, x.shape)
        rows.append(jnp.stack([load.astype(jnp.float32), jnp.exp(logs), -jnp.exp(logs) * logs, z], axis=2).sum(axis=3))
    return jnp.stack(rows, axis=2)


def draw(seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((B, LAYERS, n, EXPERTS)) for n in LENGTHS.values()]


def loss_of(logits, **only):
    off = {'balance': 0.0, 'z': 0.0, 'local': 0.0, 'spread': 0.0}
    objective = ExpertUse(**(off | only))
    return jax.jit(lambda x: objective({'router': told(x)}, {'weight': WEIGHT}))(
        [jnp.asarray(x, jnp.float32) for x in logits]
    )


def by_layer(function):
    return np.mean([function(layer) for layer in range(LAYERS)])


def test_each_loss_is_its_formula():
    logits, real = draw(), np.asarray(WEIGHT) > 0

    def tokens(modality, layer):
        return logits[modality][real, layer].reshape(-1, EXPERTS)

    def everything(layer):
        return np.concatenate([tokens(0, layer), tokens(1, layer)])

    def balance(layer):
        x = everything(layer)
        chosen = np.argsort(-x, axis=-1)[:, :2]
        share = np.bincount(chosen.ravel(), minlength=EXPERTS) / chosen.size
        return EXPERTS * (share * softmax(x, axis=-1).mean(0)).sum()

    def entropy(p):
        return -(p * np.log(p)).sum(-1)

    def local(layer):
        return np.mean([entropy(softmax(tokens(m, layer), axis=-1)).mean() for m in (0, 1)])

    def spread(layer):
        means = [softmax(tokens(m, layer), axis=-1).mean(0) for m in (0, 1)]
        return np.mean([max(0, np.log(4.9) - entropy(p)) for p in means])

    for only, formula in (
        ({'balance': 0.5}, lambda layer: 0.5 * balance(layer)),
        ({'z': 0.5}, lambda layer: 0.5 * (logsumexp(everything(layer), axis=-1) ** 2).mean()),
        ({'local': 0.5}, lambda layer: 0.5 * local(layer)),
        ({'spread': 0.5, 'least': 4.9}, lambda layer: 0.5 * spread(layer)),
    ):
        found = loss_of(logits, **only)
        assert by_layer(formula) > 1e-3
        np.testing.assert_allclose(found, np.full(B, by_layer(formula)), rtol=1e-4)


def test_equal_experts_are_the_best_balance_and_one_for_all_the_worst():
    one_for_all = [np.tile([20.0, 15.0, 0, 0, 0], (B, LAYERS, n, 1)) for n in LENGTHS.values()]
    np.testing.assert_allclose(loss_of(one_for_all, balance=1.0), EXPERTS / 2, rtol=0.02)
    np.testing.assert_allclose(loss_of([np.zeros_like(x) for x in one_for_all], balance=1.0), 1, rtol=1e-5)


def test_the_gradient_takes_from_the_expert_that_has_most():
    logits = [x + np.array([3.0, 0, 0, 0, 0]) for x in draw(scale=0.5)]
    gradient = jax.jit(jax.grad(lambda bias: loss_of([x + bias for x in logits], balance=1.0)[0]))(jnp.zeros(EXPERTS))
    assert gradient[0] > 0 and (np.asarray(gradient)[1:] < gradient[0]).all()


def test_a_modality_that_no_row_has_is_left_out():
    rows = told([jnp.asarray(x, jnp.float32) for x in draw()]).at[:, :, 1].set(0)
    of_batch = jax.jit(lambda x: ExpertUse()({'router': x}, {'weight': WEIGHT}))
    with_text, alone = of_batch(rows), of_batch(rows[:, :, :1])
    np.testing.assert_allclose(with_text, alone, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: ExpertUse()({'router': x}, {'weight': WEIGHT}).sum()))(jnp.zeros_like(rows))
    assert np.isfinite(gradient).all()


def test_more_experts_than_there_are():
    with pytest.raises(UserError, match=r'least: 6.0 of 5 experts'):
        ExpertUse(least=6.0)({'router': jnp.zeros((B, LAYERS, 2, 4, EXPERTS))}, {'weight': WEIGHT})


def test_what_is_no_router_is_told():
    for outputs, message in (({'ruoter': WEIGHT}, "did you mean 'ruoter'"), ({'router': WEIGHT}, 'not what a router')):
        with pytest.raises(UserError, match=message):
            ExpertUse()(outputs, {'weight': WEIGHT})
