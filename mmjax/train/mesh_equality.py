"""The same run on every mesh: losses of the first steps in float32 against those on one device, of two models that
drop out and have between them what a mesh may cut: `mixture` and `captions` of `check_parts`. `scripts/mesh_equality`
asks eight virtual devices of one process, and of two with four each.
"""

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.config.swaps import snake_case
from mmjax.data import train_batches
from mmjax.distributed import local
from mmjax.distributed.group import group
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.sharding import MeshShape, check_batch, place_batch, rows_here
from mmjax.sharding.presets import Auto, Dp, Fsdp, FsdpTp, LongContext, Moe, Multislice
from mmjax.train.check_parts import SMALL, captions, mixture
from mmjax.train.files import check_writable, write_json
from mmjax.train.guarded import step_program
from mmjax.train.manifest import code_version
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import TrainState, abstract_state, create_state, mesh_of
from mmjax.types import Shapes

PRESETS: tuple[MeshShape, ...] = (Dp(), Fsdp(), FsdpTp(), LongContext(), Moe(), Multislice(), Auto())
MODELS = {'mixture': mixture, 'captions': captions}
STEPS = 20
SAME = 1e-5  # of losses in float32: sums in another order, nothing else

Losses = dict[str, list[float] | str]


def on_each_mesh(of: Experiment) -> Losses:
    """Losses by the name of the preset, or why it is left out."""
    found: Losses = {}
    done: dict[tuple[int, ...], list[float]] = {}
    for shape in PRESETS:
        name = snake_case(type(shape).__name__)
        try:
            on = dataclasses.replace(of, mesh=shape)
            sizes = tuple(mesh_of(on, shapes_of_batch(on)).shape.values())
            if sizes not in done:  # `auto` is often one of the others
                done[sizes] = losses(on)
            found[name] = done[sizes]
        except UserError as error:
            found[name] = f'left out: {error}'
    return found


def alone(of: Experiment) -> list[float]:
    """Losses on the first device of this process."""
    return losses(dataclasses.replace(of, mesh=Dp()), jax.local_devices()[:1])


def losses(of: Experiment, devices: Sequence[Any] | None = None) -> list[float]:
    """Of the first steps, with products in full float32 whatever devices prefer.

    Raises:
        UserError: where the mesh cannot be, or cannot take the model or the batch.
    """
    mesh, _, state, step = prepared(of, devices)
    batches = train_batches(of.data, batch_size=of.batch_size, seed=of.seed, rows=rows_here(of.batch_size, mesh))
    found = []
    with jax.set_mesh(mesh), jax.default_matmul_precision('highest'):
        for _ in range(STEPS):
            state, metrics = step(state, place_batch(next(batches), mesh))
            found.append(float(metrics['loss']))
    batches.close()
    return found


def prepared(
    of: Experiment, devices: Sequence[Any] | None = None
) -> tuple[jax.sharding.Mesh, Shapes, TrainState, Callable[..., Any]]:
    """The mesh, shapes of a batch, a fresh state, and the step to be compiled."""
    batch = shapes_of_batch(of)
    mesh = mesh_of(of, batch, devices)
    check_batch(of.batch_size, mesh, accumulate=of.optim.accumulate)
    shapes = abstract_state(of, batch, mesh)
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(lambda x: x.sharding, shapes)
        state = jax.jit(functools.partial(create_state, of, batch), out_shardings=shardings)()
    return mesh, batch, state, step_program(of, shapes)


def apart(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest difference, each relative to its own number of b."""
    return float(np.max(np.abs(np.subtract(a, b)) / np.abs(b)))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 where all meshes agree, 1 where one does not, 2 where FILE cannot be written."""
    parser = argparse.ArgumentParser(prog='scripts/mesh_equality', description=(__doc__ or '').partition(':')[0])
    parser.add_argument('--json', metavar='FILE', type=Path, help='also write the differences there')
    given = parser.parse_args(argv)
    if given.json:
        try:
            check_writable(given.json, flag='--json')
        except UserError as error:
            print(f'mmjax: error: {error}', file=sys.stderr)
            return 2
    found: dict[str, float | str] = {}
    others: dict[str, float] = {}  # what other draws look like
    in_group = _of_a_group(processes=2, devices=4)
    for model, make in MODELS.items():
        reference = alone(make(SMALL))
        others[f'{model}/another_seed'] = apart(alone(dataclasses.replace(make(SMALL), seed=1)), reference)
        for layout, by_name in {'1x8': on_each_mesh(make(SMALL)), '2x4': in_group[model]}.items():
            for name, x in by_name.items():
                found[f'{model}/{layout}/{name}'] = x if isinstance(x, str) else apart(x, reference)
                print(f'{model}/{layout}/{name:16} {x if isinstance(x, str) else format(apart(x, reference), ".1e")}')
    passed = all(isinstance(x, float) and x <= SAME for x in found.values())
    if given.json:
        about = {'steps': STEPS, 'jax': jax.__version__, 'commit': code_version()['commit']}
        write_json(given.json, {**found, **others, **about})
    return int(not passed)


def _of_a_group(*, processes: int, devices: int) -> dict[str, Losses]:
    """By the name of the model."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, 'losses.json')
        environments = local.environments(processes=processes, devices=devices, gpus=0, port=local.free_port())
        command = [sys.executable, '-c', f'from mmjax.train.mesh_equality import member; member({str(file)!r})']
        code = local.launch(command, environments)
        if code:
            raise subprocess.CalledProcessError(code, command)
        return json.loads(file.read_text())


def member(file: str) -> None:
    """What each process of the group does."""
    with group() as first:
        found = {model: on_each_mesh(make(SMALL)) for model, make in MODELS.items()}
        if first:
            Path(file).write_text(json.dumps(found))


if __name__ == '__main__':
    sys.exit(main())
