"""What a run needs before its first step, and what is checked before anything is made."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmjax.data import train_batches
from mmjax.distributed.group import shared
from mmjax.experiment import Experiment
from mmjax.sharding import check_batch
from mmjax.storage import AnyPath
from mmjax.train.checkpoint import steps_in
from mmjax.train.checks import check_alone, check_classes, check_evaluations, check_objectives
from mmjax.train.directory import check_place
from mmjax.train.init import Start, find_start
from mmjax.train.state import TrainState, abstract_state, mesh_of
from mmjax.train.texts import check_texts
from mmjax.types import Shapes


class Prepared(NamedTuple):
    """What a run needs beside its config: devices, shapes of a global batch, abstract state; where it starts, if at
    another run's parameters.
    """

    mesh: jax.sharding.Mesh
    batch: Shapes
    shapes: TrainState
    start: Start | None

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(x.size for x in jax.tree.leaves(self.shapes.params))


def prepare(
    experiment: Experiment,
    *,
    run: AnyPath | None,
    devices: Sequence[Any] | None = None,
    device_bytes: int | None = None,
) -> Prepared:
    """Raises UserError on a config that cannot run.

    run: its directory; None: what it starts from is not looked for. devices: those of the mesh (default: all here).
    device_bytes: the memory of one, where it cannot tell.
    """
    if run is not None:
        check_place(run)
    experiment.check()
    check_texts(experiment)
    batch = shapes_of_batch(experiment)
    mesh = mesh_of(experiment, batch, devices, device_bytes=device_bytes)
    check_batch(experiment.batch_size, mesh, accumulate=experiment.optim.accumulate)
    shapes = abstract_state(experiment, batch, mesh)
    check_classes(experiment)
    check_objectives(experiment, shapes.params, batch)
    check_alone(experiment, shapes.params, batch)
    check_evaluations(experiment, shapes.params)
    begins = run is not None and not shared(lambda: has_checkpoint(run))
    return Prepared(mesh, batch, shapes, find_start(experiment, shapes.params, run=run) if begins else None)


def has_checkpoint(run: AnyPath) -> bool:
    """Whether a run goes on from where it stopped, when it is trained."""
    return bool(steps_in(run / 'checkpoints'))


def shapes_of_batch(experiment: Experiment) -> Shapes:
    """Shapes and dtypes of a global batch."""
    batch = example(experiment)
    return {name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape[1:]), x.dtype) for name, x in batch.items()}


def example(experiment: Experiment) -> Mapping[str, np.ndarray]:
    """A batch of the first example alone."""
    data: Any = experiment.data
    data = dataclasses.replace(data, workers=0)
    batches = train_batches(data, batch_size=1, seed=experiment.seed, bad=lambda _: None)  # its shapes are right
    batch = next(batches)
    batches.close()
    return batch
