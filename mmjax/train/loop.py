"""The training loop.

Invariants, before and after each turn: `state.step` steps are done; the next batch is global batch `state.step`; rows
up to that step are written. A checkpoint is saved after the rows of its step, so resuming loses and repeats nothing.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmjax.data import train_batches
from mmjax.experiment import Experiment
from mmjax.failpoints import failpoint
from mmjax.sharding import place_batch, rows_here
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.evaluate import Scorer
from mmjax.train.metrics import Progress, Writers
from mmjax.train.state import TrainState
from mmjax.train.step import source_gradient, step_program
from mmjax.train.timing import Stopwatch


def run_steps(
    experiment: Experiment,
    state: TrainState,
    *,
    shapes: TrainState,
    mesh: jax.sharding.Mesh,
    scorer: Scorer,
    checkpoints: Checkpoints,
    writers: Writers | None,
    stopwatch: Stopwatch,
    about: Callable[[int], dict[str, Any]],
) -> TrainState:
    """Trains from `state.step` to `experiment.steps`, evaluates what has `every`, saves. One process has writers.

    shapes: the state's shapes and shardings (`abstract_state`).
    """
    start = int(state.step)
    step_fn = step_program(experiment, shapes)
    batches = train_batches(
        experiment.data,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        start=start,
        rows=rows_here(experiment.batch_size, mesh),
    )
    gradient_fn = jax.jit(functools.partial(source_gradient, experiment=experiment))
    progress = Progress(start=start, steps=experiment.steps, quiet=writers is None)
    try:
        for step in range(start + 1, experiment.steps + 1):
            waiting = time.perf_counter()
            failpoint('loop/batch')
            batch = next(batches)
            stopwatch.waited(time.perf_counter() - waiting)
            logs = step % experiment.log.every == 0  # whatever the length: a run that is prolonged has the same rows
            with jax.set_mesh(mesh):
                placed = place_batch(batch, mesh)
                told = {}
                if logs and experiment.log.source_gradients:
                    jax.block_until_ready(state)
                    paused, sources = time.perf_counter(), enumerate(experiment.data.parts)
                    told = {f'grad_norm_of/{name}': float(gradient_fn(state, placed, i)) for i, name in sources}
                    stopwatch.paused(time.perf_counter() - paused)
                state, metrics = step_fn(state, placed)
            failpoint('loop/step')
            if step == start + 1:
                jax.block_until_ready(state)
                stopwatch.restart(step)  # what was compiled is not part of the rate

            if logs:
                values = {name: float(np.asarray(value)) for name, value in (metrics | told).items()}
                timing = stopwatch.read(step)
                if writers:
                    writers.metrics(step, values)
                    if timing:
                        writers.timing(step, timing)
                progress.show(
                    step,
                    loss=values['loss'],
                    rate=timing.get('examples_per_second', 0.0),
                    batch_size=experiment.batch_size,
                )

            due = {name: e for name, e in experiment.evals.items() if e.every and step % e.every == 0}
            saves = step % experiment.checkpoint.every == 0 or step == experiment.steps
            if due or saves:
                jax.block_until_ready(state)  # steps that are still computing belong to the rate, not to the pause
            paused = time.perf_counter()
            for name, evaluation in due.items():
                failpoint('loop/evaluating')
                scores, _ = scorer.score(evaluation, state.evaluated)
                scores = {f'{name}/{metric}': value for metric, value in scores.items()}
                if writers:
                    writers.metrics(step, scores)
                progress.say(f'step {step}  ' + '  '.join(f'{metric} {value:.4f}' for metric, value in scores.items()))
            if saves:
                if writers:
                    writers.sync()
                checkpoints.save(step, state, about=about(step))
            stopwatch.paused(time.perf_counter() - paused)
        checkpoints.wait()
    finally:
        progress.close()
        batches.close()
    return state
