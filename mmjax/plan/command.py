"""`mmjax plan`: a config, what was changed in it, and hardware; the result is flat, as it stands in its JSON."""

import dataclasses
import gzip
import importlib.metadata
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from mmjax.config import load_stages, override, override_stages
from mmjax.errors import UserError, nearest
from mmjax.experiment import NO_INIT, Experiment
from mmjax.plan.analysis import analyse
from mmjax.plan.gpu import gpu_devices
from mmjax.plan.libtpu import tpu_devices
from mmjax.plan.program import GIB, Compiled, OutOfMemory, compile_step, step_for
from mmjax.plan.topologies import Topology, parse_topology
from mmjax.train.files import check_writable
from mmjax.train.flops import train_flops
from mmjax.train.run import Prepared, prepare
from mmjax.train.stages import by_name

COMPILERS = {'tpu': 'libtpu', 'gpu': 'jax-cuda13-plugin'}
FLAGS = ('--topology', '--slices', '--stage', '--text', '--json')


def plan_command(
    file: str, changes: Sequence[str], *, topology: str, slices: int = 1, stage: str = '', text: str | None = None
) -> dict[str, Any]:
    """Plans what a config file returns, with changes as on the command line. See `plan` for the result.

    stage: which experiment of a config that returns several. text: where the compiled program goes, gzipped.

    Raises:
        UserError: on hardware that does not exist, a config that cannot run on it, or a compiler that is not here.
    """
    if text:
        check_writable(Path(text), flag='--text')
    only_compile()
    experiment = _experiment(file, changes, stage=stage)  # first, for --help, which needs no hardware
    hardware = parse_topology(topology, slices=slices)
    result, program = plan(experiment, hardware)
    if text and program:
        # Without a time of its own, so that the same program is the same file.
        Path(text).write_bytes(gzip.compress(program.encode(), mtime=0))
    return result


def only_compile() -> None:
    """For the whole process: whatever accelerator is here is left alone, and no program is kept for one that is not."""
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_enable_compilation_cache', False)


def plan(experiment: Experiment, topology: Topology) -> tuple[dict[str, Any], str]:
    """What the train step needs on a topology, and the compiled text ('' where it does not fit).

    `fits` is the compiler's own verdict; of GPUs, whose compiler gives none, whether what it lays out is within the
    memory. GiB are of one device: `limit_gib` of its memory; `argument_gib` state and
    batch, `temp_gib` what the step needs beside them, `peak_gib` the most at a time as the compiler states it (a little
    under the sum as a rule), `host_gib` in the memory of the host; or where it does not fit `need_gib` and
    `missing_gib`. `model_flops` are those of one step over all devices without recomputation (see `train_flops`).

    Of the program of one device: `cycles` as the compiler estimates them, loops by their trip counts, and
    `compute_seconds`, those over the clock, where it is known; `roofline_seconds`, each instruction bounded by the peak
    or by its bytes; neither has the attention kernels, whose `kernel_seconds` are `kernel_flops` at `kernel_fraction`
    of the peak, nor other kernels (`kernels_not_counted`), nor the links. `collective_gb/KIND` is what a device sends,
    and by mesh axes `collectives/KIND/AXES/…`; `collective_seconds` by the model of `links`, one after another.
    """
    devices_of = gpu_devices if topology.generation.platform == 'gpu' else tpu_devices
    prepared = prepare(experiment, run=None, devices=devices_of(topology))
    outcome = _judged(
        topology, compile_step(step_for(experiment, state=prepared.shapes, batch=prepared.batch, mesh=prepared.mesh))
    )
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
    }
    if topology.remarks:
        result['remark'] = '; '.join(topology.remarks)
    if isinstance(outcome, OutOfMemory):
        return result, ''
    causal = all(objective.causal for objective in experiment.objectives.values())
    return result | analyse(outcome.text, topology, prepared.mesh, causal=causal), outcome.text


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


def _experiment(file: str, changes: Sequence[str], *, stage: str) -> Experiment:
    written = load_stages(file, kind=Experiment)
    prog = f'mmjax plan {file}'
    if not isinstance(written, tuple):
        if stage:
            raise UserError(f'--stage {stage}: {file} returns one experiment, no stages; leave it out')
        return override(written, changes, prog=prog, known_flags=FLAGS)
    stages = override_stages(by_name(written), changes, prog=prog, known_flags=FLAGS)
    if stage not in stages:
        what = f'unknown stage {stage!r}{nearest(stage, stages)}' if stage else f'{file} has several stages; name one'
        raise UserError(f'--stage: {what} (there are {", ".join(stages)})')
    # Where its parameters come from changes nothing of the step.
    return dataclasses.replace(stages[stage], init_from=NO_INIT)
