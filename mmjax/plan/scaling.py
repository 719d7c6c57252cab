"""`--scaling`: what a step needs from 16 chips to the largest slice of a generation, the work of a chip kept.

The least that a device has to send in a step, to hold what it does send against. Of parameters P that are cut over n
devices, of which each computes with all, in numbers of w bytes, with a accumulation steps and r replicas of each part:

    a * w * P * (n - 1) / n      to gather them for the forward pass, by a ring
    a * w * P * (n - 1) / n      again for the backward pass, which does not keep them
    a * w * P * (n - 1) / n      to sum their gradients, each device being left with its part
    2 * w * P / n * (r - 1) / r  to sum those parts over the replicas

Array by array, by the axes that the table of `sharding` cuts it along (`sharding.candidates.held`). Activations that
neighbours exchange (tensor, sequence, expert) are not in it.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.plan.parts import SECONDS, rows_of, say, total
from mmjax.plan.program import GIB
from mmjax.plan.single import devices_of, plan
from mmjax.plan.topologies import Generation, Topology
from mmjax.sharding import AnyMesh, MeshShape, check_batch
from mmjax.sharding.candidates import abstract, fixed_at, grown, held, sizes_of, written
from mmjax.sharding.presets import Auto
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import model_parameters

CHIPS = (16, 64, 512, 4096)  # and the largest slice


def sizes(generation: Generation) -> list[Topology]:
    """A handful of slices that exist, those nearest to a cube."""
    shapes = [shape for shape in generation.shapes() if math.prod(shape) >= CHIPS[0]]
    chips = sorted({n for n in (*CHIPS, math.prod(shapes[-1])) if any(math.prod(shape) == n for shape in shapes)})
    same = ([shape for shape in shapes if math.prod(shape) == n] for n in chips)
    return [Topology(generation, min(some, key=max)) for some in same]


def scaling(experiment: Experiment, generation: Generation, *, base: Topology | None = None) -> dict[str, Any]:
    """The plan at `base`, and of each of `sizes` `scaling/N/…`: topology, devices, mesh, batch_size, fits and peak_gib,
    sent_gb and bound_gb of a device, within (their ratio), and seconds/compute, /attention, /links.

    base: the slice that the batch of the config is for; None: the largest of `sizes` whose mesh cuts that batch into
    equal parts. Memory and bytes are those of a program for each size, compiled at the lowest level; compute and
    attention those at the default level at `base`, taken to be the same at each size: a device has as many examples.
    They are not quite where parameters are cut over more or fewer devices (the optimizer's part, and what is fused with
    a gather), and more at larger sizes where a loss compares an example with the whole batch. `scaling/limit_devices`:
    from where on the links take longer than both, if nothing overlaps; None: nowhere.

    Raises:
        UserError: where the config does not run at `base`.
    """
    if generation.platform != 'tpu':
        raise UserError(f'--scaling: of {generation.name} no time is known; it is for TPU')
    steps = sizes(generation)
    base = base or _base(experiment, steps)
    batch = {name: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for name, x in shapes_of_batch(experiment).items()}
    boxed = jax.eval_shape(lambda: model_parameters(experiment, batch))
    width = jnp.dtype(experiment.precision).itemsize
    cut = experiment.mesh
    if isinstance(cut, Auto):  # as it is at the base
        hbm = round(generation.hbm_gib * GIB)
        cut = MeshShape(**cut.build(devices_of(base), parameters=lambda: boxed, device_bytes=hbm).shape)
    cut = fixed_at(cut, base.devices)
    shape = grown(cut, boxed, devices=base.devices)
    say('scaling', f'{base.name}: compute, at the default level')
    result = plan(dataclasses.replace(experiment, mesh=shape), base).result
    result |= {'scaling/base': base.name}
    for i, step in enumerate(steps, start=1):
        row: dict[str, Any] = {'topology': step.name, 'devices': step.devices}
        try:
            shape = grown(cut, boxed, devices=step.devices)
            row |= {'mesh': written(sizes_of(shape, step.devices))}
            rows, left = divmod(experiment.batch_size * step.devices, base.devices)
            if left or not rows:
                raise UserError(f'{experiment.batch_size} examples for {base.devices} devices are no whole number here')
            row |= {'batch_size': rows}
            say('scaling', f'{step.name}: {row["mesh"]}, batch {rows}')
            at = plan(dataclasses.replace(experiment, mesh=shape, batch_size=rows), step, quick=True).result
        except UserError as error:
            result |= {f'scaling/{i}/{key}': value for key, value in (row | {'fits': None, 'why': str(error)}).items()}
            continue
        row |= {'fits': at['fits'], 'peak_gib': at['peak_gib'] if at['fits'] else at['need_gib']}
        row |= {'bound_gb': bound(boxed, abstract(shape, step.devices), width=width, steps=at['accumulate']) / 1e9}
        if at['fits']:
            sent = sum(value for name, value in at.items() if name.startswith('collective_gb/'))
            row |= {'sent_gb': sent, 'within': sent / row['bound_gb'] if row['bound_gb'] else None}
            row |= {part: result.get(part) for part in SECONDS.values()} | {SECONDS['links']: at[SECONDS['links']]}
        result |= {f'scaling/{i}/{key}': value for key, value in row.items()}
    return result | {'scaling/limit_devices': limit(result)}


def bound(boxed: Any, mesh: AnyMesh, *, width: int, steps: int = 1) -> float:
    """Bytes that a device has to send in a step, as the module says. boxed: abstract parameters with their logical
    axes. width: w. steps: a.
    """
    parts = held(boxed, mesh)
    return width * (3 * steps * parts.gathered + parts.reduced)


def limit(result: dict[str, Any]) -> int | None:
    """The devices of the first size whose links take longer than its compute."""
    for row in rows_of(result, 'scaling'):
        links = row.get(SECONDS['links'])
        if links and row.get(SECONDS['compute']) and links > total(row) - links:
            return row['devices']
    return None


def _base(experiment: Experiment, steps: list[Topology]) -> Topology:
    shape = MeshShape() if isinstance(experiment.mesh, Auto) else experiment.mesh  # which cuts it over all devices
    why = None
    for step in reversed(steps):
        try:
            mesh = abstract(shape, step.devices)
            check_batch(experiment.batch_size, mesh, accumulate=experiment.optim.accumulate)
        except UserError as error:
            why = error
            continue
        return step
    raise UserError(
        f'--scaling: on no slice from {steps[0].name} to {steps[-1].name} does the mesh cut the batch into equal parts '
        f'(on the first: {why}); name the slice that it is for, as --topology {steps[0].name}'
    )
