"""The train step that leaves the state as it was where its numbers are not to be trusted."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.experiment import Experiment
from mmjax.sharding import platform
from mmjax.train.compiler import compiler_options
from mmjax.train.state import TrainState
from mmjax.train.step import Metrics, train_step
from mmjax.types import Batch


def step_program(experiment: Experiment, shapes: TrainState) -> jax.stages.Wrapped:
    """The train step to be compiled, `(state, batch) -> (state, metrics)`, in place of the state that it is given; it
    takes a `limit` too (see `guarded_step`).

    shapes: the state with its shardings (`abstract_state`), where the new one and the gradients are kept too.
    """
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    step = functools.partial(guarded_step, experiment=experiment, shardings=shardings.params)
    options = compiler_options(shardings.step.mesh.devices.flat[0], deterministic=experiment.deterministic)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None), compiler_options=options)


def guarded_step(
    state: TrainState,
    batch: Batch,
    limit: Float[Array, ''] | None = None,
    *,
    experiment: Experiment,
    shardings: Any = None,
) -> tuple[TrainState, Metrics]:
    """`train_step`, after which only `step` is another where the loss or the norm of the gradient is not finite, or the
    norm is above `limit`. The norm is that of the whole gradient before it is clipped, so one leaf or one shard of any
    device is enough. `skipped`, a metric, is 1 there, else 0.
    """
    new, metrics = train_step(state, batch, experiment=experiment, shardings=shardings)
    if not experiment.guard.skip:
        return new, metrics
    good = jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])
    if limit is not None:
        good &= metrics['grad_norm'] <= limit
    return chosen(good, new, state).replace(step=new.step), metrics | {'skipped': 1 - good.astype(jnp.float32)}


def chosen(good: Array, new: TrainState, old: TrainState) -> TrainState:
    """One of two states, whole.

    On CPUs a branch, which nothing is fused with: what gives the new state is compiled as it is without a guard, and
    has its bits. A selection would be fused with the update, barrier or not, and round it otherwise. Elsewhere it is a
    selection all the same: a branch holds two states at once, for which an accelerator has no room.
    """
    if platform() == 'cpu':
        return jax.lax.cond(good, lambda new, old: new, lambda new, old: old, new, old)
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
