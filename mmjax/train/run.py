"""A run: a directory that `train` fills, goes on with, and `evaluate` reads."""

import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax import config
from mmjax.data import open_data, train_batches
from mmjax.errors import UserError
from mmjax.evals.base import Columns
from mmjax.experiment import Experiment
from mmjax.sharding import check_batch
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.evaluate import Scorer
from mmjax.train.flops import PEAK_FLOPS, train_flops
from mmjax.train.loop import run_steps
from mmjax.train.manifest import code_version, manifest, write_json
from mmjax.train.metrics import Writers
from mmjax.train.report import write_report
from mmjax.train.state import TrainState, abstract_state, create_state
from mmjax.train.timing import Stopwatch
from mmjax.types import Shapes

# What may change when a run goes on: where and how often it writes, and on how many devices it computes.
MAY_CHANGE = ('mesh', 'checkpoint', 'log')


def train(experiment: Experiment, *, workdir: str, config_file: str | None = None) -> dict[str, float]:
    """Trains, evaluates, reports; goes on where a run in `workdir` stopped; returns the results of every evaluator.

    Raises:
        UserError: on a config that cannot run, data that cannot be read, or a directory that holds another run.
    """
    experiment.check()
    run = Path(workdir)
    mesh = experiment.mesh.build()
    check_batch(experiment.batch_size, mesh, accumulate=experiment.optim.accumulate)
    _claim(run, experiment)
    results_file = run / 'results.json'
    if results_file.exists():
        _say(f'{run} is finished; its report is {run / "report.html"}')
        return json.loads(results_file.read_text())

    batch = _shapes_of_batch(experiment)
    shapes = abstract_state(experiment, batch, mesh)
    _check_classes(experiment, shapes)
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    if jax.process_index() == 0 and not (run / 'manifest.json').exists():
        write_json(run / 'manifest.json', manifest(experiment, parameters=parameters, config_file=config_file))

    checkpoints = Checkpoints(run / 'checkpoints', keep=experiment.checkpoint.keep)
    state = _start(experiment, batch, shapes, mesh, checkpoints)
    step = int(state.step)
    _say(
        f'{run}: {"resuming" if step else "starting"} at step {step} of {experiment.steps}, {parameters:,} parameters, '
        f'{jax.device_count()} {jax.devices()[0].device_kind} device(s)'
    )
    dumped = config.dump(experiment)
    writers = None
    if jax.process_index() == 0:
        writers = Writers(
            run, step=step, tensorboard=experiment.log.tensorboard, wandb=experiment.log.wandb, config=dumped
        )
    scorer = Scorer(experiment, mesh)
    try:
        state = run_steps(
            experiment,
            state,
            mesh=mesh,
            scorer=scorer,
            checkpoints=checkpoints,
            writers=writers,
            stopwatch=Stopwatch(work=_work(experiment, shapes, batch), peak_flops=_peak_flops(mesh)),
            about=lambda step: {'data_position': step, 'config': dumped},
        )
    finally:
        checkpoints.close()
        if writers:
            writers.close()
    results, columns = score_all(experiment, state.evaluated, scorer)
    if jax.process_index() == 0:
        for name, table in columns.items():
            (run / 'predictions').mkdir(exist_ok=True)
            np.savez_compressed(run / 'predictions' / f'{name}.npz', allow_pickle=False, **table)
        write_json(results_file, results)
        show_references(experiment, results)
        _say(f'report: {write_report(run, experiment=experiment)}')
    return results


def evaluate(run: str, *, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> dict[str, float]:
    """Scores the newest checkpoint of a run on the splits of its config, changed by `overrides`. Writes nothing."""
    experiment = config.override(load_experiment(run, trust=trust), list(overrides), prog=f'mmjax eval {run}')
    experiment.check()
    mesh = experiment.mesh.build()
    check_batch(experiment.batch_size, mesh)
    state = restore(run, experiment, mesh)
    results, _ = score_all(experiment, state.evaluated, Scorer(experiment, mesh))
    show_references(experiment, results)
    return results


def score_all(experiment: Experiment, params: Any, scorer: Scorer) -> tuple[dict[str, float], dict[str, Columns]]:
    """Every evaluation: flat results `NAME/METRIC`, and the per-example columns by NAME."""
    results, columns = {}, {}
    for name, evaluation in experiment.evals.items():
        scores, columns[name] = scorer.score(evaluation, params)
        results |= {f'{name}/{metric}': value for metric, value in scores.items()}
    return results, columns


def load_experiment(run: str, *, trust: Sequence[str] = ()) -> Experiment:
    """The experiment of a run directory, exactly as it was."""
    path = Path(run, 'config.json')
    try:
        dumped = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f'{run}: holds no config.json, so it is not a run directory') from error
    except json.JSONDecodeError as error:
        raise UserError(f'{path}: is no JSON: {error}') from error
    experiment = config.load(dumped, trust=trust)
    if not isinstance(experiment, Experiment):
        raise UserError(f'{path}: holds a {type(experiment).__name__}, not an Experiment')
    return experiment


def restore(run: str, experiment: Experiment, mesh: jax.sharding.Mesh) -> TrainState:
    """The newest state of a run.

    Raises:
        UserError: where it has none.
    """
    checkpoints = Checkpoints(Path(run, 'checkpoints'), keep=experiment.checkpoint.keep)
    try:
        if not checkpoints.steps:
            raise UserError(f'{run}: has no checkpoint yet; train it first')
        return checkpoints.restore(
            checkpoints.steps[-1], abstract_state(experiment, _shapes_of_batch(experiment), mesh)
        )
    finally:
        checkpoints.close()


def show_references(experiment: Experiment, results: Mapping[str, float]) -> None:
    """Prints what each evaluation's scores are to be read against."""
    for name, evaluation in experiment.evals.items():
        if evaluation.references:
            lines = ', '.join(f'{what} {value:.4f}' for what, value in evaluation.references.items())
            _say(f'{name}: {results[f"{name}/accuracy"]:.4f}' if f'{name}/accuracy' in results else f'{name}:')
            _say(f'  to read it against: {lines}')


def _claim(run: Path, experiment: Experiment) -> None:
    """Makes the run directory, or checks that it is this experiment's."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        path = run / 'config.json'
        if not path.exists():
            if any(run.iterdir()):
                raise UserError(f'{run}: is not empty and holds no run; choose another --workdir')
            if jax.process_index() == 0:
                write_json(path, {'commit': code_version()['commit'], **config.dump(experiment)})
            return
    except OSError as error:
        raise UserError(f'--workdir {run}: {error.strerror}') from error
    old = json.loads(path.read_text())
    new = config.dump(experiment)
    different = [entry for entry in config.diff({k: v for k, v in old.items() if k != 'commit'}, new)]
    different = [entry for entry in different if entry[0].split('.')[0] not in MAY_CHANGE]
    if [entry[0] for entry in different] == ['steps']:
        _, before, after = different[0]
        if after > before and not experiment.optim.schedule.depends_on_length():
            (run / 'results.json').unlink(missing_ok=True)
            different = []
    if different:
        path, before, after = different[0]
        more = f' and {len(different) - 1} more' if len(different) > 1 else ''
        raise UserError(
            f'{run}: belongs to another config: {path} was {before} and is {after}{more}; choose another '
            '--workdir, or remove the directory'
        )
    write_json(run / 'config.json', {'commit': old.get('commit'), **new})


def _shapes_of_batch(experiment: Experiment) -> Shapes:
    """Shapes and dtypes of a global batch."""
    batches = train_batches(experiment.data, batch_size=1, seed=experiment.seed)
    batch = next(batches)
    batches.close()
    return {name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape[1:]), x.dtype) for name, x in batch.items()}


def _start(
    experiment: Experiment, batch: Shapes, shapes: TrainState, mesh: jax.sharding.Mesh, checkpoints: Checkpoints
) -> TrainState:
    if checkpoints.steps:
        return checkpoints.restore(checkpoints.steps[-1], shapes)
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    with jax.set_mesh(mesh):
        return jax.jit(functools.partial(create_state, experiment, batch), out_shardings=shardings)()


def _check_classes(experiment: Experiment, shapes: TrainState) -> None:
    """Raises UserError where a decoder has another number of classes than the field that it is to predict."""
    labels = open_data(experiment.data).labels
    for name, objective in experiment.objectives.items():
        output, target = str(getattr(objective, 'output', '')), str(getattr(objective, 'target', ''))
        classes = getattr(experiment.model.decoders.get(output), 'classes', None)
        if classes is not None and target in labels and classes != (there := len(labels[target])):
            raise UserError(
                f'model.decoders.{output}.classes is {classes}, but {target}, which objective {name} lets it predict, '
                f'has {there} classes; set it to {there}'
            )


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


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)
