"""The train step and the prediction step: pure functions of state and batch."""

import functools
import typing
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmjax.balance.base import Tally
from mmjax.experiment import Experiment
from mmjax.optim import joined
from mmjax.train.accumulate import accumulated, accumulated_whole
from mmjax.train.state import TrainState, key_for
from mmjax.types import Batch, Outputs

Metrics = dict[str, Float[Array, '']]


def cast(tree: Any, precision: str) -> Any:
    """Floating leaves in the compute dtype."""
    dtype = jnp.dtype(precision)
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def train_step(state: TrainState, batch: Batch, *, experiment: Experiment) -> tuple[TrainState, Metrics]:
    """One update. Draws are a function of (seed, step), not of the mesh. Each distinct view runs the model once.

    Returns the next state and scalars: `loss`, `loss/OBJECTIVE` (scaled), `grad_norm`, `grad_norm/MODALITY` (of that
    modality's encoder), `grad_norm/fusion`, `grad_norm/decoders_NAME`, `param_norm`, `learning_rate`, and what the
    balance reports. Gradients are those that the optimiser is given: of what is frozen there is none, and where nothing
    that trains lies behind it no backward pass either.
    """
    optim = experiment.optim
    views = list(dict.fromkeys(objective.view for objective in experiment.objectives.values()))

    def run(trained: Any, seen: list[Batch], key: jax.Array) -> list[Outputs]:
        params = joined(trained, state.params)
        return [apply_model(experiment, params, part, train=True, rngs={'dropout': key}) for part in seen]

    def judge(outputs: list[Outputs], seen: list[Batch]) -> tuple[Float[Array, ''], tuple[Metrics, Tally]]:
        losses = {}
        for name, objective in experiment.objectives.items():
            i = views.index(objective.view)
            weighted = objective(outputs[i], seen[i]) * objective.weights(seen[i])
            losses[f'loss/{name}'] = objective.scale * weighted.sum() / totals[name]
        loss = functools.reduce(jnp.add, losses.values())
        return loss, ({'loss': loss, **losses}, experiment.balance.tally(outputs[0], seen[0]))

    def loss_of(trained: Any, seen: list[Batch], key: jax.Array) -> tuple[Float[Array, ''], tuple[Metrics, Tally]]:
        return judge(run(trained, seen, key), seen)

    gradient, trained = jax.grad(loss_of, has_aux=True), optim.trained(state.params)
    key = key_for('view', seed=experiment.seed, step=state.step)
    seen = [view(batch, key) for view in views]
    totals = {
        name: jnp.maximum(objective.weights(seen[views.index(objective.view)]).sum(), 1e-6)
        for name, objective in experiment.objectives.items()
    }
    key = key_for('dropout', seed=experiment.seed, step=state.step)
    if optim.accumulate == 1:
        grads, (metrics, tally) = gradient(trained, seen, key)
    elif any(objective.couples_rows for objective in experiment.objectives.values()):
        grads, (metrics, tally) = accumulated_whole(run, judge, trained, seen, key, parts=optim.accumulate)
    else:
        grads, (metrics, tally) = accumulated(gradient, trained, seen, key, parts=optim.accumulate)
    key = key_for('balance', seed=experiment.seed, step=state.step)
    grads, balance = experiment.balance(grads, tally, key=key, step=state.step)

    updates, opt_state = optim.build(experiment.steps).update(grads, state.opt_state, trained)
    trained = optax.apply_updates(trained, updates)
    params, ema = joined(trained, state.params), state.ema
    if ema is not None:
        ema = joined(optax.incremental_update(trained, optim.trained(ema), 1 - optim.ema), ema)
    metrics |= balance | {
        'grad_norm': optax.tree.norm(grads),
        'param_norm': optax.tree.norm(params),
        'learning_rate': jnp.asarray(optim.schedule.build(experiment.steps)(state.step), jnp.float32),
    }
    for name, part in grads.items():
        metrics[f'grad_norm/{name.removeprefix("encoders_")}'] = optax.tree.norm(part)
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def predict_step(params: Any, batch: Batch, *, experiment: Experiment) -> Outputs:
    """Every decoder's output, without draws."""
    return apply_model(experiment, params, batch, train=False)


def apply_model(experiment: Experiment, params: Any, batch: Batch, *, train: bool, **kwargs: Any) -> Outputs:
    """The model in the experiment's compute dtype: parameters are cast, and layers compute in the dtype of theirs."""
    outputs = experiment.model.apply({'params': cast(params, experiment.precision)}, batch, train=train, **kwargs)
    return typing.cast(Outputs, outputs)
