"""The train step and the prediction step: pure functions of state and batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mmjax.balance.base import Tally
from mmjax.experiment import Experiment
from mmjax.optim import joined
from mmjax.sharding import constrain, current_mesh, keep
from mmjax.train.accumulate import accumulated, accumulated_whole
from mmjax.train.fixed_order import in_fixed_order, obstacle, portions_of
from mmjax.train.passes import Views, apply_model, run
from mmjax.train.sources import mean_or_nan, sums_by_source, token_shares
from mmjax.train.state import TrainState, key_for
from mmjax.types import Batch, Outputs

Metrics = dict[str, Float[Array, '']]


def train_step(
    state: TrainState, batch: Batch, *, experiment: Experiment, shardings: Any = None
) -> tuple[TrainState, Metrics]:
    """One update. Draws are a function of (seed, step), not of the mesh. Each distinct view runs the model once.

    shardings: of the parameters, which their gradients keep; None: as the compiler likes.

    Returns the next state and scalars: `loss`, `loss/OBJECTIVE` (scaled), `grad_norm`, `grad_norm/MODALITY` (of that
    modality's encoder), `grad_norm/fusion`, `grad_norm/decoders_NAME`, `param_norm`, `learning_rate`, and what the
    balance reports. Gradients are those that the optimiser is given: of what is frozen there is none, and where nothing
    that trains lies behind it no backward pass either. Of a mixture also `loss/OBJECTIVE/SOURCE`, the mean over the
    rows of a source (NaN where the batch has none), and what `token_shares` tells.
    """
    optim, trained = experiment.optim, experiment.optim.trained(state.params)
    grads, metrics, tally = gradients(state, batch, experiment=experiment, shardings=shardings)
    key = key_for('balance', seed=experiment.seed, step=state.step)
    grads, balance = experiment.balance(grads, tally, key=key, step=state.step)

    updates, opt_state = optim.build(experiment.steps).update(grads, state.opt_state, trained)
    trained = optax.apply_updates(trained, updates)
    params, ema = joined(trained, state.params), state.ema
    if ema is not None:
        ema = joined(optax.incremental_update(trained, optim.trained(ema), 1 - optim.ema), ema)
    metrics |= balance | token_shares(experiment, state.params, batch)
    metrics |= {
        'grad_norm': optax.tree.norm(grads),
        'param_norm': optax.tree.norm(_whole(params) if experiment.deterministic else params),
        'learning_rate': jnp.asarray(optim.schedule.build(experiment.steps)(state.step), jnp.float32),
    }
    for name, part in grads.items():
        metrics[f'grad_norm/{name.removeprefix("encoders_")}'] = optax.tree.norm(part)
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def source_gradient(
    state: TrainState, batch: Batch, source: Int[Array, ''], *, experiment: Experiment
) -> Float[Array, '']:
    """The norm of the gradient of what the rows of one source of a mixture add to the loss of the batch, before
    balancing. The gradients of all sources sum to that of the step.
    """
    return optax.tree.norm(gradients(state, batch, experiment=experiment, source=source)[0])


def gradients(
    state: TrainState,
    batch: Batch,
    *,
    experiment: Experiment,
    source: Int[Array, ''] | None = None,
    shardings: Any = None,
) -> tuple[Any, Metrics, Tally]:
    """Of the parameters that train: the gradient of the loss; and the losses, and what the balance counts.

    source: the number of the source of a mixture whose rows' losses alone are summed. What they are compared with, such
    as other rows as negatives, and what they are divided by stays that of the whole batch.
    """
    optim = experiment.optim
    views = Views.of(experiment)
    first = views.place(next(iter(experiment.objectives.values())).view)
    view_key = key_for('view', seed=experiment.seed, step=state.step)

    def see(trained: Any, seen: list[Batch], key: jax.Array) -> tuple[list[Outputs], list[Batch]]:
        params = joined(trained, state.params)
        return run(experiment, params, views, seen, dropout=key, mining=view_key)

    def outputs_of(trained: Any, seen: list[Batch], key: jax.Array) -> list[Outputs]:
        return see(trained, seen, key)[0]

    def judge(outputs: list[Outputs], seen: list[Batch]) -> tuple[Float[Array, ''], tuple[Metrics, Tally]]:
        losses, apart = weighted(experiment, views, outputs, seen, totals, source=source)
        loss = functools.reduce(jnp.add, losses.values())
        return loss, ({'loss': loss, **losses, **apart}, experiment.balance.tally(outputs[first], seen[first]))

    def loss_of(trained: Any, seen: list[Batch], key: jax.Array) -> tuple[Float[Array, ''], tuple[Metrics, Tally]]:
        return judge(*see(trained, seen, key))

    gradient, trained = jax.grad(loss_of, has_aux=True), optim.trained(state.params)
    seen = [view(batch, view_key) for view in views.plain]
    fixed = experiment.deterministic and not obstacle(experiment, current_mesh())
    totals = {}  # of the whole batch, whatever part of it is judged; what is mined is never cut into parts
    for name, objective in experiment.objectives.items():
        if objective.view in views.plain:
            weights = objective.weights(seen[views.place(objective.view)])
            weights = constrain(weights, None) if fixed else weights
            totals |= {name: weights.sum(), **sums_by_source(experiment, batch, weights, prefix=f'{name}/')}
    key = key_for('dropout', seed=experiment.seed, step=state.step)

    def hold(grads: Any) -> Any:
        return grads if shardings is None else keep(grads, optim.trained(shardings))

    if fixed:
        grads, (metrics, tally) = in_fixed_order(
            gradient,
            trained,
            seen,
            key,
            step=state.step,
            portions=portions_of(experiment),
            parts=optim.accumulate,
        )  # whole on every device, where the optimiser takes their norm
    elif optim.accumulate == 1:
        grads, (metrics, tally) = gradient(trained, seen, key)
        grads = hold(grads)
    elif any(objective.couples_rows for objective in experiment.objectives.values()):
        grads, (metrics, tally) = accumulated_whole(
            outputs_of, judge, trained, seen, key, parts=optim.accumulate, hold=hold
        )
    else:
        grads, (metrics, tally) = accumulated(gradient, trained, seen, key, parts=optim.accumulate, hold=hold)
    return grads, metrics, tally


def weighted(
    experiment: Experiment,
    views: Views,
    outputs: list[Outputs],
    seen: list[Batch],
    totals: Metrics,
    *,
    source: Int[Array, ''] | None = None,
) -> tuple[Metrics, Metrics]:
    """`loss/OBJECTIVE`, scaled: the sum over the rows of `seen` of what each adds to the average over the whole batch;
    and `loss/OBJECTIVE/SOURCE`, to that over the rows of a source.

    totals: the weight of the whole batch, by OBJECTIVE and OBJECTIVE/SOURCE; where there is none, that of `seen`.
    source: the number of the source whose rows alone are summed; None: all.
    """
    losses, apart = {}, {}
    for name, objective in experiment.objectives.items():
        i = views.place(objective.view)
        weights = objective.weights(seen[i])
        total = jnp.maximum(totals.get(name, weights.sum()), 1e-6)
        rows = objective(views.read_by(objective, outputs), seen[i]) * weights
        if source is not None:
            rows = jnp.where(seen[i]['source'] == source, rows, 0)
        losses[f'loss/{name}'] = objective.scale * rows.sum() / total
        own = sums_by_source(experiment, seen[i], weights, prefix=f'{name}/')
        for key, value in sums_by_source(experiment, seen[i], rows, prefix=f'{name}/').items():
            apart[f'loss/{key}'] = objective.scale * mean_or_nan(value, totals.get(key, own[key]))
    return losses, apart


def _whole(tree: Any) -> Any:
    """On every device, so that its norm is summed in one order."""
    return jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), tree)


def predict_step(params: Any, batch: Batch, *, experiment: Experiment) -> Outputs:
    """Every decoder's output, without draws."""
    return apply_model(experiment, params, batch, train=False)
