"""Schedules against their closed form, AdamW against NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.optim import AdamW, WarmupConstant, WarmupCosine, joined


def warmup_cosine(step, *, peak, warmup, end, steps):
    if step < warmup:
        return peak * step / warmup
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@given(st.integers(0, 20), st.integers(0, 60))
def test_warmup_cosine(warmup, step):
    schedule = WarmupCosine(peak=0.3, warmup=warmup, end=0.03).build(60)
    assert float(schedule(step)) == pytest.approx(
        warmup_cosine(step, peak=0.3, warmup=warmup, end=0.03, steps=60), abs=1e-6
    )


@given(st.integers(0, 20), st.integers(0, 60))
def test_warmup_constant(warmup, step):
    schedule = WarmupConstant(peak=0.3, warmup=warmup).build(60)
    assert float(schedule(step)) == pytest.approx(0.3 * min(1, step / warmup) if warmup else 0.3, abs=1e-6)


def test_which_schedule_lets_a_run_be_prolonged():
    assert WarmupCosine().depends_on_length() and not WarmupConstant().depends_on_length()
    short, long = (WarmupConstant().build(steps) for steps in (200, 400))
    assert all(float(short(step)) == float(long(step)) for step in (0, 50, 150))


def test_warmup_that_does_not_fit():
    with pytest.raises(UserError, match='warmup: 100 steps of warm-up do not fit into a run of 100 steps'):
        WarmupCosine(warmup=100).build(100)


@pytest.mark.parametrize('schedule', [WarmupCosine(warmup=-1), WarmupConstant(warmup=-1)])
def test_negative_warmup(schedule):
    with pytest.raises(UserError, match='warmup: -1 is negative'):
        schedule.build(100)


PARAMS = {
    'dense': {'kernel': np.full((3, 2), 0.5, np.float32), 'bias': np.full(2, 0.5, np.float32)},
    'norm': {'scale': np.ones(3, np.float32)},
    'embed': {'embedding': np.full((4, 3), 0.5, np.float32)},
}


def gradients(step):
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), PARAMS)


@pytest.mark.parametrize('clip', [1.0, 0.0])
def test_adamw_is_that_of_numpy(clip):
    config = AdamW(schedule=WarmupConstant(peak=0.1, warmup=2), b1=0.8, b2=0.9, eps=1e-6, decay=0.05, clip=clip)
    optimiser = config.build(10)
    params, found_state = jax.tree.map(jnp.asarray, PARAMS), None
    leaves = {path: x.astype(np.float64) for path, x in jax.tree_util.tree_leaves_with_path(PARAMS)}
    m, v = ({path: np.zeros_like(x) for path, x in leaves.items()} for _ in range(2))
    found_state = optimiser.init(params)
    for step in range(5):
        updates, found_state = optimiser.update(gradients(step), found_state, params)
        params = optax.apply_updates(params, updates)
        grads = {path: g.astype(np.float64) for path, g in jax.tree_util.tree_leaves_with_path(gradients(step))}
        norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
        rate = 0.1 * min(1, step / 2)
        for path, g in grads.items():
            g = g / max(1, norm / clip) if clip else g
            m[path] = 0.8 * m[path] + 0.2 * g
            v[path] = 0.9 * v[path] + 0.1 * g**2
            unit = m[path] / (1 - 0.8 ** (step + 1)) / (np.sqrt(v[path] / (1 - 0.9 ** (step + 1))) + 1e-6)
            decay = 0.05 * leaves[path] if path[-1].key == 'kernel' else 0
            leaves[path] = leaves[path] - rate * (unit + decay)
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        np.testing.assert_allclose(x, leaves[path], atol=1e-5, err_msg=str(path))


def test_matrices_alone_decay():
    mask = AdamW().decay_mask(PARAMS)
    assert mask == {
        'dense': {'kernel': True, 'bias': False},
        'norm': {'scale': False},
        'embed': {'embedding': False},
    }
    assert AdamW(decayed=('kernel', 'embedding')).decay_mask(PARAMS)['embed']['embedding']


def test_rates_multiply_what_adamw_does_and_what_is_frozen_is_not_there():
    """NumPy once more: the norm is that of the trained gradients, step and decay are scaled together."""
    rates = {'dense': 0.5, 'dense/bias': 2.0, 'embed': 0.0}
    config = AdamW(schedule=WarmupConstant(peak=0.1, warmup=0), decay=0.05, clip=1.0, rates=rates)
    optimiser, params = config.build(10), jax.tree.map(jnp.asarray, PARAMS)
    trained = config.trained(params)
    assert jax.tree.structure(trained) != jax.tree.structure(params) and not jax.tree.leaves(trained['embed'])
    state = optimiser.init(trained)
    assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 2 * (6 + 2 + 3)  # two moments of each that trains
    updates, _ = optimiser.update(config.trained(gradients(0)), state, trained)
    found = joined(optax.apply_updates(trained, updates), params)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    grads = gradients(0)
    kept = [grads['dense']['kernel'], grads['dense']['bias'], grads['norm']['scale']]
    clip = max(1, math.sqrt(sum((g**2).sum() for g in kept)))
    for part, name, rate in [('dense', 'kernel', 0.5), ('dense', 'bias', 2.0), ('norm', 'scale', 1.0)]:
        g, x = grads[part][name] / clip, PARAMS[part][name]
        step = g / (np.abs(g) + 1e-8) + (0.05 * x if name == 'kernel' else 0)
        np.testing.assert_allclose(found[part][name], x - 0.1 * rate * step, atol=1e-5, err_msg=f'{part}/{name}')
    np.testing.assert_array_equal(found['embed']['embedding'], PARAMS['embed']['embedding'])


@pytest.mark.parametrize(
    ('rates', 'told'),
    [
        (
            {'embd': 0.0},
            r"optim.rates: 'embd' is no parameter; did you mean 'embed'\? \(there are dense, norm, embed\)",
        ),
        ({'dense': -1.0}, 'optim.rates: -1.0 of dense is no factor'),
        ({'dense': math.nan}, 'optim.rates: nan of dense is no factor'),
        ({'*': 0.0}, 'freezes every parameter'),
    ],
)
def test_rates_that_cannot_be(rates, told):
    with pytest.raises(UserError, match=told):
        AdamW(rates=rates).trained(PARAMS)


def test_without_rates_the_state_is_what_it_was():
    """So that checkpoints of older runs fit."""
    plain, scaled = AdamW(), AdamW(rates={'dense': 0.5})
    assert plain.trained(PARAMS) is PARAMS
    before = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mask=plain.decay_mask)).init(PARAMS)
    schedule = optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
    found = plain.build(200).init(PARAMS)
    assert jax.tree.structure(found) == jax.tree.structure((before[0], (*before[1][:2], schedule)))
    assert jax.tree.structure(scaled.build(200).init(PARAMS)) != jax.tree.structure(found)
