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
from mmjax.optim import AdamW, WarmupConstant, WarmupCosine


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
