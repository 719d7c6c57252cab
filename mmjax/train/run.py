"""A run: a directory that `train` fills, and goes on with."""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from mmjax import config
from mmjax.distributed.group import is_first, say, shared, together
from mmjax.distributed.preemption import Preemption
from mmjax.distributed.watchdog import watchdog
from mmjax.experiment import Experiment
from mmjax.failpoints import failpoint
from mmjax.storage import AnyPath, path_of, write_bytes
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.directory import check_common, claimed, record_config
from mmjax.train.drift import Change, check_allowed
from mmjax.train.evaluate import Scorer
from mmjax.train.files import read_json, write_json
from mmjax.train.fixed_order import obstacle
from mmjax.train.flops import PEAK_FLOPS, train_flops
from mmjax.train.init import lines, load, record, started, told
from mmjax.train.loop import run_steps
from mmjax.train.manifest import manifest, record_manifest
from mmjax.train.metrics import Writers, finite
from mmjax.train.prepare import Prepared, prepare
from mmjax.train.report import write_report
from mmjax.train.resume import resumed
from mmjax.train.score import score_all, show_references
from mmjax.train.state import TrainState, create_state
from mmjax.train.timing import Stopwatch
from mmjax.types import Shapes


def train(
    experiment: Experiment,
    *,
    workdir: str,
    config_file: str | None = None,
    report: bool = True,
    until: int | None = None,
    allow_drift: Sequence[str] = (),
) -> dict[str, float]:
    """Trains, evaluates, reports; goes on where a run in `workdir` stopped; returns the results of every evaluator.

    report: whether to write report.html, which takes seconds; a study of many short runs writes one of its own. until:
    a step to stop at, with a checkpoint of it and no results; the same call without it goes on. allow_drift: fields
    that may differ from what a run was begun with, see `drift.py`.

    Raises:
        UserError: on a config that cannot run, data that cannot be read, or a directory that holds another run.
        Preempted: on SIGTERM, once the last finished step is saved.
    """
    check_allowed(allow_drift)
    preemption = Preemption()
    with preemption.listening(), watchdog(experiment.patience) as beat:
        return _trained(
            experiment,
            path_of(workdir),
            preemption,
            beat,
            config_file=config_file,
            report=report,
            until=until,
            allow=allow_drift,
        )


def _trained(
    experiment: Experiment,
    run: AnyPath,
    preemption: Preemption,
    beat: Callable[[], None],
    *,
    config_file: str | None,
    report: bool,
    until: int | None,
    allow: Sequence[str],
) -> dict[str, float]:
    # Whatever can be wrong is found before the directory is made; a finished run only tells its results.
    prepared = None if is_finished(run) else prepare(experiment, run=run)
    with claimed(run, experiment, allow=allow) if is_first() else contextlib.nullcontext([]) as changes:
        if not is_finished(run):
            check_common(run)
            prepared = prepared or prepare(experiment, run=run)
            if is_first():
                _record(experiment, run, prepared, config_file=config_file, allow=allow, changes=changes)
            _train(experiment, run, prepared, preemption, beat, until=until)
        if not is_finished(run):
            return {}
        results = shared(lambda: read_results(run))
        if not report:
            return results
        if is_first() and not (run / 'report.html').exists():
            write_report(run, experiment=experiment)
    show_references(experiment, results)
    say(f'report: {run / "report.html"}')
    return results


def is_finished(run: AnyPath) -> bool:
    """Whether a run has its results, as the first process sees it."""
    return shared(lambda: (run / 'results.json').exists())


def read_results(run: AnyPath) -> dict[str, float]:
    """The final metrics of a finished run."""
    return {name: float(value) for name, value in read_json(run / 'results.json').items()}


def _record(
    experiment: Experiment,
    run: AnyPath,
    prepared: Prepared,
    *,
    config_file: str | None,
    allow: Sequence[str],
    changes: Sequence[Change],
) -> None:
    """Writes where a run comes from, once all that must match does."""
    if prepared.start:
        write_json(run / 'init.json', record(prepared.start))
    origin = {'init_from': told(run)} if (run / 'init.json').exists() else {}
    now = manifest(experiment, parameters=prepared.parameters, config_file=config_file) | origin
    record_manifest(run, now, allow=allow, changes=changes)
    record_config(run, experiment)
    (run / 'report.html').unlink(missing_ok=True)  # of a shorter run


def _train(
    experiment: Experiment,
    run: AnyPath,
    prepared: Prepared,
    preemption: Preemption,
    beat: Callable[[], None],
    *,
    until: int | None,
) -> None:
    """Fills a claimed directory: checkpoints, metrics, and when all is done predictions and results."""
    mesh, batch, shapes, _ = prepared
    parameters = prepared.parameters
    trained = sum(x.size for x in jax.tree.leaves(experiment.optim.trained(shapes.params)))
    together()
    checkpoints = Checkpoints(run / 'checkpoints', keep=experiment.checkpoint.keep)
    state = resumed(checkpoints, shapes, say=say) or _fresh(experiment, prepared)
    step = int(state.step)
    say(
        f'{run}: {"resuming" if step else "starting"} at step {step} of {experiment.steps}, '
        f'{f"{trained:,} of " if trained != parameters else ""}{parameters:,} parameters'
        f'{" train" if trained != parameters else ""}, {jax.device_count()} {jax.devices()[0].device_kind} device(s)'
    )
    if experiment.deterministic and (why := obstacle(experiment, mesh)):
        say(f'deterministic: on these devices alone, as {why}')
    dumped = config.dump(experiment)
    writers = None
    if is_first():
        log = experiment.log
        writers = Writers(run, step=step, tensorboard=log.tensorboard, wandb=log.wandb, config=dumped)
    scorer = Scorer(experiment, mesh, beat=beat)
    beat()
    try:
        state = run_steps(
            experiment,
            state,
            shapes=shapes,
            mesh=mesh,
            scorer=scorer,
            checkpoints=checkpoints,
            writers=writers,
            stopwatch=Stopwatch(work=_work(experiment, shapes, batch), peak_flops=_peak_flops(mesh)),
            about=lambda step: {'data_position': step, 'config': dumped},
            preemption=preemption,
            beat=beat,
            until=until,
            fresh=lambda: _fresh(experiment, prepared),
        )
    finally:
        checkpoints.close()
        if writers:
            writers.close()
    if int(state.step) < experiment.steps:
        return
    results, columns = score_all(experiment, state.evaluated, scorer)
    if is_first():
        (run / 'predictions').mkdir(exist_ok=True)
        for name, table in columns.items():
            content = io.BytesIO()
            np.savez_compressed(content, allow_pickle=False, **table)
            write_bytes(run / 'predictions' / f'{name}.npz', content.getvalue())
        failpoint('results/writing')
        write_json(run / 'results.json', {name: finite(value) for name, value in results.items()})


def _fresh(experiment: Experiment, prepared: Prepared) -> TrainState:
    """The state before the first step, with what it takes from another run."""
    mesh, batch, shapes, start = prepared
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    with jax.set_mesh(mesh):
        state = jax.jit(functools.partial(create_state, experiment, batch), out_shardings=shardings)()
        if start is None:
            return state
        for line in lines(start, shapes.params):
            say(line)
        return started(state, load(start, shapes.params, mesh, experiment=experiment))


def _work(experiment: Experiment, shapes: TrainState, batch: Shapes) -> dict[str, float]:
    encoded = jax.eval_shape(
        lambda params, batch: experiment.model.apply({'params': params}, batch, method='encode'), shapes.params, batch
    )
    tokens = sum(math.prod(x.mask.shape) for x in encoded.values())
    return {
        'examples': float(experiment.batch_size),
        'tokens': float(tokens),
        'flops': float(train_flops(experiment, shapes.params, batch)),
    }


def _peak_flops(mesh: jax.sharding.Mesh) -> float | None:
    peak = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    return peak * mesh.size if peak else None
