"""One plan: the train step of an experiment, compiled for a topology, as one flat result."""

import hashlib
import importlib.metadata
import json
import math
from typing import Any, NamedTuple

import jax

from mmjax.experiment import Experiment
from mmjax.plan.analysis import analyse
from mmjax.plan.attended import every_pair, share_of
from mmjax.plan.gpu import gpu_devices
from mmjax.plan.kept import find, keep
from mmjax.plan.libtpu import tpu_devices
from mmjax.plan.parts import COMPILERS
from mmjax.plan.program import GIB, Compiled, OutOfMemory, compile_step, step_for
from mmjax.plan.topologies import Topology
from mmjax.train.compiler import compiler_options
from mmjax.train.flops import train_flops
from mmjax.train.manifest import code_version
from mmjax.train.prepare import Prepared, prepare

QUICKLY = ('collective', 'seconds/links')  # what the lowest level of optimisation tells of beside memory


class Traced(NamedTuple):
    """What a compile begins with."""

    prepared: Prepared
    lowered: jax.stages.Lowered


def only_compile() -> None:
    """For the whole process: whatever accelerator is here is left alone, and no program is kept for one that is not."""
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_enable_compilation_cache', False)


def devices_of(topology: Topology) -> list[Any]:
    """Devices that are not here; see `tpu_devices`."""
    return gpu_devices(topology) if topology.generation.platform == 'gpu' else tpu_devices(topology)


def trace(experiment: Experiment, topology: Topology) -> Traced:
    """Raises UserError on a config that cannot run on the topology."""
    hbm = round(topology.generation.hbm_gib * GIB)
    prepared = prepare(experiment, run=None, devices=devices_of(topology), device_bytes=hbm)
    lowered = step_for(experiment, state=prepared.shapes, batch=prepared.batch, mesh=prepared.mesh)
    return Traced(prepared, lowered)


class Planned(NamedTuple):
    """result: flat, see `plan`. text: the compiled program, '' where it does not fit. cached: it was there already."""

    result: dict[str, Any]
    text: str
    cached: bool


def plan(experiment: Experiment, topology: Topology, *, quick: bool = False) -> Planned:
    """What the train step needs on a topology. The same program is not compiled again (`kept.py`).

    quick: compiled at the lowest level of optimisation, for memory and bytes on the links: its cycles say nothing of
    time, and are left out.

    `fits` is the compiler's own verdict; of GPUs, whose compiler gives none, whether what it lays out is within the
    memory. GiB are of one device: `limit_gib` of its memory; `argument_gib` state and batch, `temp_gib` the block for
    all else, `held_gib` both, and what is returned that lies in neither: what the program takes, gaps between its
    buffers included. `peak_gib` is the most of it in use at a time, as the compiler states it: a little less as a rule,
    much less where gaps are large. `host_gib` is in the memory of the host. Where the step does not fit, `need_gib` and
    `missing_gib` instead. `model_flops` are those of one step over all devices without recomputation (see
    `train_flops`).

    Of the program of one device: `cycles` as the compiler estimates them, loops by their trip counts, by kind of
    instruction `cycles/KIND`, and `compute_seconds`, those over the clock, where it is known; `roofline_seconds`, each
    instruction bounded by the peak or by its bytes. Neither has the custom calls. Of these the attention `kernels`
    take `seconds/attention`: `kernel_flops` at `kernel_fraction` of the peak, `kernel_share` of what they were if each
    query read each key (see `share_of`; of the device that reads most). `other_kernels` take `other_kernel_seconds`:
    their FLOPs at the peak or their bytes, whichever is longer; of `other_kernels_without_flops` nobody has noted any,
    and `unrecognised_kernels` of them say that they are attention, in a form that is not known here.
    `seconds/compute` is `compute_seconds`, or the roofline where no clock is known, and `other_kernel_seconds`;
    `seconds/links` by the model of `links`, one after another: what the three leave out is traffic to the host. Of
    `conditionals` all branches are counted. `collective_gb/KIND` is what a device sends, and by mesh axes
    `collectives/KIND/AXES/…`. `compiler_options/NAME`: what the compiler was told. `commit`: of the code, where it is a
    clone.
    """
    traced = trace(experiment, topology)
    prepared = traced.prepared
    options = compiler_options(prepared.mesh.devices.flat[0], deterministic=experiment.deterministic)
    key = _key(topology, traced, options=options, quick=quick)
    found = find(key)
    outcome = found or compile_step(traced.lowered, quick=quick)
    if found is None:
        keep(key, outcome)
    outcome = _judged(topology, outcome)
    result: dict[str, Any] = {
        'fits': isinstance(outcome, Compiled),
        'topology': topology.name,
        'slices': topology.slices,
        'devices': topology.devices,
        **{f'mesh/{axis}': size for axis, size in prepared.mesh.shape.items()},
        **_work(experiment, prepared, devices=topology.devices),
        'limit_gib': topology.generation.hbm_gib,
        **_memory(outcome),
        'compile_seconds': round(outcome.seconds, 1),
        **_versions(topology),
        **{f'compiler_options/{name}': value for name, value in (options or {}).items()},
        'commit': code_version()['commit'],
    }
    if topology.remarks:
        result['remark'] = '; '.join(topology.remarks)
    if isinstance(outcome, OutOfMemory):
        return Planned(result, '', found is not None)
    share = every_pair if quick else share_of(experiment, prepared.shapes.params, mesh=prepared.mesh)
    told = analyse(outcome.text, topology, prepared.mesh, share=share)
    if quick:
        told = {name: value for name, value in told.items() if name.startswith(QUICKLY)}
    return Planned(result | told, outcome.text, found is not None)


def _key(topology: Topology, traced: Traced, *, options: dict[str, Any] | None, quick: bool) -> str:
    """Of all that a compiled program follows from."""
    mesh, digest = traced.prepared.mesh, hashlib.sha256(traced.lowered.as_text().encode())
    told = (topology.name, topology.slices, _versions(topology), options)
    order = [device.id for device in mesh.devices.flat]
    digest.update(json.dumps([*told, order, quick]).encode())
    return digest.hexdigest()[:32]


def _judged(topology: Topology, outcome: Compiled | OutOfMemory) -> Compiled | OutOfMemory:
    """The compiler for CUDA refuses nothing: what it lays out is held against the memory of the GPU here."""
    limit = round(topology.generation.hbm_gib * GIB)
    if topology.generation.platform == 'gpu' and isinstance(outcome, Compiled) and outcome.held > limit:
        return OutOfMemory(outcome.held, limit, outcome.seconds)
    return outcome


def _memory(outcome: Compiled | OutOfMemory) -> dict[str, float]:
    if isinstance(outcome, OutOfMemory):
        sizes = {'need_gib': outcome.need, 'limit_gib': outcome.limit, 'missing_gib': outcome.missing}
    else:
        sizes = {
            'peak_gib': outcome.most,
            'held_gib': outcome.held,
            'argument_gib': outcome.argument,
            'temp_gib': outcome.temp,
            'output_gib': outcome.output,
            'alias_gib': outcome.alias,
            'host_gib': outcome.host,
        }
    return {name: round(size / GIB, 6) for name, size in sizes.items()}


def _work(experiment: Experiment, prepared: Prepared, *, devices: int) -> dict[str, Any]:
    params, batch = prepared.shapes.params, prepared.batch
    encoded = jax.eval_shape(lambda p, b: experiment.model.apply({'params': p}, b, method='encode'), params, batch)
    return {
        'parameters': sum(x.size for x in jax.tree.leaves(params)),
        'batch_size': experiment.batch_size,
        'accumulate': experiment.optim.accumulate,
        'tokens_per_device': sum(math.prod(x.mask.shape) for x in encoded.values()) / devices,
        'model_flops': train_flops(experiment, params, batch),
    }


def _versions(topology: Topology) -> dict[str, str]:
    """Of what a plan is read from: jax and the compiler."""
    compiler = COMPILERS[topology.generation.platform]
    return {'jax': jax.__version__, compiler: importlib.metadata.version(compiler)}
