"""Steps whose numbers go wrong leave nothing in the state; too many in a row lead back to the last good checkpoint."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import failpoints
from mmjax.errors import UserError
from mmjax.experiment import Checkpoint, Log
from mmjax.failpoints import VARIABLE, Injected
from mmjax.faults.poison import Poison, flip
from mmjax.guard import Guard
from mmjax.optim import AdamW, WarmupConstant
from mmjax.sharding import MeshShape
from mmjax.train.checkpoint import Checkpoints, steps_in
from mmjax.train.digests import digests
from mmjax.train.guarded import guarded_step
from mmjax.train.metrics import read_rows
from mmjax.train.replicas import Flipped, Memory
from mmjax.train.run import train
from mmjax.train.state import abstract_state
from mmjax.train.watch import LAG, Usual, Watch
from tests.train import toy
from tests.train.test_step import batches


def started(watch, skipped, *, norms=None, begin=1):
    """Steps as the loop tells of them; returns after which the state had to go back, and all lines."""
    lines = []
    for step, bad in enumerate(skipped, start=begin):
        watch.limits(step)
        norm = jnp.float32(norms[step - begin] if norms else 1.0)
        watch.add(step, {'skipped': jnp.float32(bad), 'loss': jnp.float32(jnp.nan if bad else 1.0), 'grad_norm': norm})
        told = watch.fallen(step, wait=False)
        if told is None:
            return step, lines
        lines += told
    return None, lines


def test_too_many_in_a_row_lead_back_and_the_count_goes_on():
    watch = Watch(Guard(in_a_row=3, rollbacks=1))
    assert started(watch, [0, 1, 1, 0, 0, 0])[0] is None and watch.skipped == 2
    assert started(watch, [1, 1, 1, 1, 1, 1], begin=7)[0] == 9 + LAG + 1
    assert (watch.first, watch.last) == (7, 9)
    watch.give_up()
    watch.went_back(5, {'skipped': 2, 'rollbacks': 0, 'first': 0, 'in_a_row': 0})
    assert (watch.skipped, watch.rollbacks, watch.in_a_row) == (2 + 4, 1, 0)
    started(watch, [1] * 8, begin=10)
    with pytest.raises(UserError, match=r'3 steps in a row, up to 12, were skipped.*after going back 1 times'):
        watch.give_up()


def test_a_watch_goes_on_where_another_was_saved():
    rng = np.random.default_rng(0)
    norms = np.exp(0.4 * rng.standard_normal(200)).tolist()
    norms[90] = norms[150] = 300.0
    one, guard = Watch(Guard(spike=20.0)), Guard(spike=20.0)
    limits = []
    for step, norm in enumerate(norms, start=1):
        limits.append(one.limits(step)[0])
        one.add(
            step, {'skipped': jnp.float32(norm > limits[-1]), 'loss': jnp.float32(1), 'grad_norm': jnp.float32(norm)}
        )
        one.fallen(step, wait=step in (30, 77))
        if step in (60, 91, 152):  # saved, and gone on with
            one.fallen(step, wait=True)
            one = Watch(guard, one.told())
    two, again = Watch(guard), []
    for step, norm in enumerate(norms, start=1):
        again.append(two.limits(step)[0])
        two.add(
            step, {'skipped': jnp.float32(norm > again[-1]), 'loss': jnp.float32(1), 'grad_norm': jnp.float32(norm)}
        )
        two.fallen(step, wait=False)
    two.fallen(200, wait=True)
    one.fallen(200, wait=True)
    assert limits == again and one.skipped == two.skipped == 2 and np.isinf(limits[: Usual.WARM]).all()


def test_a_spike_is_no_alarm_for_long():
    usual = Usual(20.0)
    for _ in range(Usual.WARM):
        usual.take(1.0)
    assert usual.limit == 20.0
    usual.take(1e6)
    usual.take(np.nan)
    assert usual.limit < 30
    for _ in range(200):
        usual.take(50.0)
    assert usual.limit > 500


@pytest.mark.parametrize(
    ('guard', 'what'),
    [
        (Guard(in_a_row=0), 'guard.in_a_row'),
        (Guard(spike=0.5), 'guard.spike: 0.5'),
        (Guard(spike=9.0, skip=False), 'guard.skip'),
        (Guard(verify='sometimes'), "unknown 'sometimes'"),
    ],
)
def test_what_means_nothing_is_told(guard, what):
    with pytest.raises(UserError, match=what):
        toy.experiment(guard=guard).check()


@functools.cache
def stepped(where, limit=None):
    """A state, and what a guarded step makes of it whose gradients of steps 1 and 3 are poisoned."""
    value = '100' if where == 'all' else 'nan'
    experiment = toy.experiment(balance=Poison((1, 3), value, where))
    state = toy.drawn(experiment, batches()[0]).replace(step=jnp.zeros((), jnp.int32))
    step = jax.jit(functools.partial(guarded_step, experiment=experiment))
    return state, *step(state, batches()[0], limit), step


def test_a_step_with_one_wrong_number_changes_nothing():
    state, new, metrics, step = stepped('shard')
    assert digests(new) == digests(state.replace(step=state.step + 1)) and float(metrics['skipped']) == 1
    after, metrics = step(new, batches()[1], None)
    assert float(metrics['skipped']) == 0 and np.isfinite(float(metrics['param_norm']))
    assert sum(digests(after)[path] != before for path, before in digests(new).items()) > 50


def test_a_gradient_above_the_limit_changes_nothing():
    state, new, metrics, step = stepped('all', np.float32(20))
    assert float(metrics['grad_norm']) > 20 and digests(new) == digests(state.replace(step=state.step + 1))
    assert float(step(new, batches()[1], np.float32(20))[1]['skipped']) == 0


@pytest.fixture
def optimised():
    """As a run is compiled, where bits depend on what is fused."""
    jax.config.update('jax_disable_most_optimizations', False)
    yield
    jax.config.update('jax_disable_most_optimizations', True)


@pytest.mark.parametrize('clip', [0.0, 1.0])
def test_clean_steps_have_the_bits_that_they_have_without_a_guard(clip, optimised):
    optim = AdamW(schedule=WarmupConstant(peak=3e-3, warmup=2), ema=0.9, clip=clip)
    found = []
    for guard in (Guard(), Guard(skip=False)):
        experiment = toy.experiment(optim=optim, guard=guard)
        state = toy.drawn(experiment, batches()[0]).replace(step=jnp.zeros((), jnp.int32))
        step = jax.jit(functools.partial(guarded_step, experiment=experiment), donate_argnums=0)
        for batch in batches():
            state, metrics = step(state, batch)
        found.append((digests(state), float(metrics['loss']), float(metrics['grad_norm'])))
    assert found[0] == found[1]


STREAK = toy.experiment(
    balance=Poison((6, 7, 8)),
    guard=Guard(in_a_row=3),
    checkpoint=Checkpoint(every=4, keep=2),
    log=Log(every=2, tensorboard=False),
)


def state_of(run, step):
    checkpoints = Checkpoints(run / 'checkpoints', keep=None)
    try:
        return checkpoints.about(step)
    finally:
        checkpoints.close()


def test_a_run_goes_back_and_on_and_the_same_when_it_is_interrupted(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(failpoints, '_times', type(failpoints._times)())
    train(STREAK, workdir=str(tmp_path / 'whole'), report=False)
    assert 'steps 6 to 8 were skipped: going back to step 4' in capfd.readouterr().err
    rows = read_rows(tmp_path / 'whole' / 'metrics.jsonl')
    assert [(row['step'], row['skipped']) for row in rows] == [(2, 0), (4, 0), (6, 1), (10, 4), (12, 4)]
    assert steps_in(tmp_path / 'whole' / 'checkpoints') == [8, 12]
    assert state_of(tmp_path / 'whole', 12)['guard'] == {'skipped': 4, 'rollbacks': 1, 'first': 0, 'in_a_row': 0}
    for time in (8, 10):  # among the wrong ones, and behind them
        run = tmp_path / str(time)
        monkeypatch.setenv(VARIABLE, f'loop/batch@{time}=raise')
        failpoints._times.clear()
        with pytest.raises(Injected):
            train(STREAK, workdir=str(run), report=False)
        monkeypatch.delenv(VARIABLE)
        train(STREAK, workdir=str(run), report=False)
        assert state_of(run, 12) == state_of(tmp_path / 'whole', 12) and read_rows(run / 'metrics.jsonl') == rows


def test_without_a_checkpoint_it_begins_anew_and_ends_after_some_times(tmp_path, capfd):
    wrong = dataclasses.replace(STREAK, balance=Poison(tuple(range(1, 13))), guard=Guard(in_a_row=3, rollbacks=2))
    with pytest.raises(UserError, match=r'3 steps in a row, up to 9, were skipped.* after going back 2 times'):
        train(wrong, workdir=str(tmp_path), report=False)
    assert 'steps 1 to 3 were skipped: going back to step 0' in capfd.readouterr().err
    assert steps_in(tmp_path / 'checkpoints') == [3, 6]


def placed(shape):
    """Parameters cut over `fsdp`, with copies over `data`."""
    experiment, mesh = toy.experiment(), MeshShape(**shape).build(jax.devices())
    shapes = abstract_state(experiment, batches()[0], mesh)
    return jax.device_put(toy.drawn(experiment, batches()[0]), jax.tree.map(lambda x: x.sharding, shapes))


def test_a_bit_that_flips_in_a_copy_is_named():
    state, memory = placed({'data': 4, 'fsdp': 2}), Memory('saves')
    memory.check(state, copies=True)
    flip(state.params['fusion']['stack']['layers']['feed_forward']['up']['kernel'], device=5, bit=77)
    with pytest.raises(Flipped, match=r'^params/fusion/stack/layers/feed_forward/up/kernel has other .* device 5:'):
        memory.check(state, copies=True)
    Memory('').check(state, copies=True)


def test_a_bit_that_flips_where_there_is_no_copy_is_named_if_it_was_looked_at_before():
    state, memory = placed({'data': 1, 'fsdp': 8}), Memory('saves')
    memory.leave(state, saves=True)
    flip(state.ema['fusion']['stack']['layers']['feed_forward']['up']['kernel'], device=3, bit=40)
    with pytest.raises(Flipped, match=r'^ema/fusion/stack/layers/feed_forward/up/kernel changed .* device 3:'):
        memory.check(state, copies=True)
    memory.leave(state, saves=False)
    memory.check(state, copies=True)  # nobody can know
