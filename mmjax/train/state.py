"""The state of a run: what a checkpoint holds."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int

from mmjax.distributed.group import gathered
from mmjax.experiment import Experiment
from mmjax.sharding import AnyMesh, parameter_shardings, replicated
from mmjax.sharding.presets import memory
from mmjax.types import Shapes


@struct.dataclass
class TrainState:
    """step: how many steps are done. ema: the moving average of the parameters, None where the experiment has none.

    The position in the data is `step` too: global batch b is that of step b.
    """

    step: Int[Array, '']
    params: Any
    opt_state: optax.OptState
    ema: Any

    @property
    def evaluated(self) -> Any:
        """The parameters that evaluation uses."""
        return self.params if self.ema is None else self.ema


# What a draw is for: randomness is a function of (seed, step, purpose).
PURPOSES = {'init': 0, 'dropout': 1, 'view': 2, 'balance': 3}


def key_for(purpose: str, *, seed: Int[Array, ''] | int, step: Int[Array, ''] | int = 0) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), PURPOSES[purpose])


def model_parameters(experiment: Experiment, batch: Shapes) -> Any:
    """Fresh parameters that still carry their logical axes (`nn.meta.unbox` takes them off). batch: its shapes."""
    example = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
    return experiment.model.init(key_for('init', seed=experiment.seed), example)['params']


def create_state(experiment: Experiment, batch: Shapes) -> TrainState:
    """The state before the first step, of fresh parameters."""
    return _state_of(experiment, nn.meta.unbox(model_parameters(experiment, batch)))


def _state_of(experiment: Experiment, params: Any) -> TrainState:
    """The state before the first step, of these parameters. The optimiser knows those that train alone."""
    ema = jax.tree.map(jnp.copy, params) if experiment.optim.ema else None
    optim = experiment.optim
    return TrainState(jnp.zeros((), jnp.int32), params, optim.build(experiment.steps).init(optim.trained(params)), ema)


def mesh_of(
    experiment: Experiment, batch: Shapes, devices: Sequence[Any] | None = None, *, device_bytes: int | None = None
) -> jax.sharding.Mesh:
    """The mesh of an experiment on these devices. device_bytes: of memory, where they cannot tell.

    devices: none: those of all processes, which have to come here together, as the memory of each counts.
    """
    if devices is None and device_bytes is None:
        # The same everywhere: meshes that differ would leave each process waiting for the others' first collective.
        device_bytes = min((told for told in gathered(memory(jax.local_devices())) if told), default=None)
    return experiment.mesh.build(
        devices,
        parameters=lambda: jax.eval_shape(lambda: model_parameters(experiment, batch)),
        device_bytes=device_bytes,
    )


def abstract_state(experiment: Experiment, batch: Shapes, mesh: AnyMesh) -> TrainState:
    """Shapes, dtypes and shardings of the state. Moments and moving average live where their parameters live."""
    fresh = jax.eval_shape(lambda: model_parameters(experiment, batch))  # the model is traced once
    state = jax.eval_shape(lambda params: _state_of(experiment, params), nn.meta.unbox(fresh))
    params = parameter_shardings(fresh, mesh)
    opt_state = optax.tree.map_params(
        experiment.optim.build(experiment.steps),
        lambda _, sharding: sharding,
        state.opt_state,
        experiment.optim.trained(params),
        transform_non_params=lambda _: replicated(mesh),
    )
    ema = params if experiment.optim.ema else None
    shardings = state.replace(step=replicated(mesh), params=params, opt_state=opt_state, ema=ema)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
