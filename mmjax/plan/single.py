"""One plan: the train step of an experiment, compiled for a topology, as one flat result."""

import hashlib
import importlib.metadata
import json
import math
from typing import Any, NamedTuple

import jax

from mmjax.encoders.text import CausalTokenEncoder
from mmjax.experiment import Experiment
from mmjax.plan.analysis import analyse
from mmjax.plan.gpu import gpu_devices
from mmjax.plan.kept import find, keep
from mmjax.plan.libtpu import tpu_devices
from mmjax.plan.program import GIB, Compiled, OutOfMemory, compile_step, step_for
from mmjax.plan.topologies import Topology
from mmjax.train.compiler import compiler_options
from mmjax.train.flops import train_flops
from mmjax.train.manifest import code_version
from mmjax.train.run import Prepared, prepare

QUICKLY = ('collective', 'seconds/links')  # what the lowest level of optimisation tells of beside memory
COMPILERS = {'tpu': 'libtpu', 'gpu': 'jax-cuda13-plugin'}


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
    memory. GiB are of one device: `limit_gib` of its memory; `argument_gib` state and
    batch, `temp_gib` what the step needs beside them, `peak_gib` the most at a time as the compiler states it (a little
    under the sum as a rule), `host_gib` in the memory of the host; or where it does not fit `need_gib` and
    `missing_gib`. `model_flops` are those of one step over all devices without recomputation (see `train_flops`).

    Of the program of one device: `cycles` as the compiler estimates them, loops by their trip counts, and
    `compute_seconds`, those over the clock, where it is known; `roofline_seconds`, each instruction bounded by the peak
    or by its bytes. Neither has the attention kernels, whose `kernel_seconds` are `kernel_flops` at `kernel_fraction`
    of the peak, every query with every key but in a model of causal texts alone; nor other custom calls, whose
    `other_kernel_seconds` are their bytes over the bandwidth of the memory; nor the links. Of `conditionals` all
    branches are counted. `collective_gb/KIND` is what a device sends, and by mesh axes `collectives/KIND/AXES/…`;
    `collective_seconds` by the model of `links`, one after another.
    `seconds/compute`, `seconds/attention` and `seconds/links` are these three again, for sums; compute is the roofline
    where no clock is known. `commit`: of the code, where it is a clone.
    """
    traced = trace(experiment, topology)
    prepared = traced.prepared
    key = _key(experiment, topology, traced, quick=quick)
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
        'commit': code_version()['commit'],
    }
    if topology.remarks:
        result['remark'] = '; '.join(topology.remarks)
    if isinstance(outcome, OutOfMemory):
        return Planned(result, '', found is not None)
    causal = all(isinstance(encoder, CausalTokenEncoder) for encoder in experiment.model.encoders.values())
    told = analyse(outcome.text, topology, prepared.mesh, causal=causal)
    if quick:
        told = {name: value for name, value in told.items() if name.startswith(QUICKLY)}
    return Planned(result | told, outcome.text, found is not None)


def _key(experiment: Experiment, topology: Topology, traced: Traced, *, quick: bool) -> str:
    """Of all that a compiled program follows from."""
    mesh, digest = traced.prepared.mesh, hashlib.sha256(traced.lowered.as_text().encode())
    told = (
        topology.name,
        topology.slices,
        _versions(topology),
        compiler_options(mesh.devices.flat[0], deterministic=experiment.deterministic),
    )
    order = [device.id for device in mesh.devices.flat]
    digest.update(json.dumps([*told, order, quick]).encode())
    return digest.hexdigest()[:32]


def _judged(topology: Topology, outcome: Compiled | OutOfMemory) -> Compiled | OutOfMemory:
    """The compiler for CUDA refuses nothing: what it lays out is held against the memory of the GPU here."""
    limit = round(topology.generation.hbm_gib * GIB)
    if topology.generation.platform == 'gpu' and isinstance(outcome, Compiled) and outcome.needed > limit:
        return OutOfMemory(outcome.needed, limit, outcome.seconds)
    return outcome


def _memory(outcome: Compiled | OutOfMemory) -> dict[str, float]:
    if isinstance(outcome, OutOfMemory):
        sizes = {'need_gib': outcome.need, 'limit_gib': outcome.limit, 'missing_gib': outcome.missing}
    else:
        sizes = {
            'peak_gib': outcome.needed,
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
