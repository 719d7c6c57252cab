"""A toy run for a group: its losses tell which rows a batch holds, and its second process may be told to die."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Checkpoint, Evaluation, Experiment
from mmjax.objectives.base import Objective
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.sharding import MESH_AXES, MeshShape, place_batch, rows_here
from mmjax.sharding.presets import Auto
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import mesh_of, model_parameters
from tests.train import toy

DIES = 'MMJAX_TEST_DIES'  # set to a checkpoint: process 1 kills itself in its first evaluation, once that is there

APART = 'MMJAX_TEST_APART'  # set to a directory: each process goes to one of its own in it, named by its number


@dataclass(frozen=True)
class Rows(Objective):
    """Adds up squares of row numbers, exact in float32: the same for the same rows alone."""

    def __call__(self, outputs, batch):
        return jnp.square(batch['index']).astype(jnp.float32)


@dataclass(frozen=True)
class Mortal(Accuracy):
    def predictions(self, outputs, batch):
        awaited = os.environ.get(DIES)
        if awaited and os.environ['MMJAX_PROCESS'] == '1' and Path(awaited).parent.exists():  # it trains
            until = time.monotonic() + 120
            while not Path(awaited).exists() and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predictions(outputs, batch)


def experiment() -> Experiment:
    if APART in os.environ:
        os.chdir(Path(os.environ[APART], os.environ['MMJAX_PROCESS']))
    elif jax.process_count() > 1:
        check_placement()
        check_memory()
    return toy.experiment(
        steps=6,
        mesh=MeshShape(fsdp=2),
        objectives={'answer': CrossEntropy(), 'rows': Rows()},
        evals={'test': Evaluation(toy.data(rows=21), Mortal(), every=4, references={'chance': 0.5})},
        checkpoint=Checkpoint(every=3),
    )


def check_memory() -> None:
    """`auto` is one mesh, for the least memory of all: each process is told that of its own devices alone."""
    small = toy.experiment(mesh=Auto(state_share=1.0))
    batch = shapes_of_batch(small)
    need = 16 * sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: model_parameters(small, batch))))
    own = SimpleNamespace(memory_stats=lambda: {'bytes_limit': 4 * need if jax.process_index() else need // 3})
    with mock.patch.object(jax, 'local_devices', lambda: [own]):
        assert mesh_of(small, batch).shape['fsdp'] == 4


def check_placement() -> None:
    """However a mesh lays a batch over devices, each of them has the rows that are its own."""
    devices = np.asarray(jax.devices())
    number = len(devices)
    for parts, order in (
        (1, range(number)),
        (2, range(number)),
        (number, [*range(0, number, 2), *range(1, number, 2)]),
    ):
        sizes = [{'data': parts, 'tensor': number // parts}.get(axis, 1) for axis in MESH_AXES]
        mesh = jax.sharding.Mesh(devices[list(order)].reshape(sizes), MESH_AXES)
        rows = rows_here(16, mesh)
        placed = place_batch({'row': np.asarray(rows)}, mesh)['row']
        assert placed.shape == (16,), (parts, placed.shape)
        for shard in placed.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.arange(16)[shard.index])
        assert len(rows) == (16 if parts == 1 else 8), 'it loads what it does not need'
