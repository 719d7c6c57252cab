"""The training loop.

Invariants, before and after each turn: `state.step` steps are done; the next batch is global batch `state.step`; rows
up to that step are written. A checkpoint is saved after the rows of its step, so resuming loses and repeats nothing.
Where too many steps in a row were skipped, the step is that of the last of them again, and the state an earlier one.
Only the evaluations of a step may be cut off: they have no part in the state, and are made up for when it is resumed.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mmjax.data import train_batches
from mmjax.distributed.group import shared
from mmjax.distributed.preemption import Preemption
from mmjax.errors import Preempted, UserError
from mmjax.experiment import Evaluation, Experiment
from mmjax.failpoints import failpoint
from mmjax.sharding import place_batch, rows_here
from mmjax.train.bad_records import BadRecords
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.evaluate import Scorer
from mmjax.train.guarded import step_program
from mmjax.train.metrics import Progress, Writers
from mmjax.train.replicas import Memory
from mmjax.train.rollback import rolled_back
from mmjax.train.state import TrainState
from mmjax.train.step import source_gradient
from mmjax.train.timing import Stopwatch
from mmjax.train.watch import Watch


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
    preemption: Preemption,
    beat: Callable[[], None],
    fresh: Callable[[], TrainState],
    until: int | None = None,
) -> TrainState:
    """Trains from `state.step` to `experiment.steps`, or `until`, evaluates what has `every`, saves. One process has
    writers.

    shapes: the state's shapes and shardings (`abstract_state`). beat: called whenever something is done. fresh:
    gives the state before the first step.

    Raises:
        Preempted: once the last finished step is saved.
        UserError: where numbers go wrong again and again (`Guard`), or memory has (`Flipped`).
    """
    start, last = int(state.step), min(until or experiment.steps, experiment.steps)
    step_fn = step_program(experiment, shapes)
    stream = functools.partial(
        train_batches,
        experiment.data,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        rows=rows_here(experiment.batch_size, mesh),
        bad=lambda found: records.meet(found),
    )
    batches = stream(start=start)
    watch = Watch(experiment.guard, checkpoints.about(start).get('guard') if start else None)
    memory = Memory(experiment.guard.verify)
    gradient_fn = jax.jit(functools.partial(source_gradient, experiment=experiment))
    progress = Progress(start=start, steps=experiment.steps, quiet=writers is None)
    records = BadRecords(experiment, writers, say=progress.say)

    def evaluate(step: int, due: Mapping[str, Evaluation]) -> None:
        for name, evaluation in due.items():
            failpoint('loop/evaluating')
            scores, _ = scorer.score(evaluation, state.evaluated)
            scores = {f'{name}/{metric}': value for metric, value in scores.items()}
            if writers:
                writers.metrics(step, scores)
            progress.say(f'step {step}  ' + '  '.join(f'{metric} {value:.4f}' for metric, value in scores.items()))

    def save(step: int) -> None:
        with preemption.shielded():
            memory.check(state, copies=True)
            records.settle(step)
            if shared(lambda: writers.sync() if writers else True):  # none is newer than its rows
                checkpoints.save(step, state, about=about(step) | {'guard': watch.told()})
            else:
                progress.say(f'checkpoint {step} is not saved: rows of metrics before it wait for room')

    def sound(step: int, *, wait: bool) -> bool:
        """Whether the state of a step can be gone on with; else it is another now, that of `watch.last`, and saved."""
        nonlocal state, batches
        lines = watch.fallen(step, wait=wait)
        for line in lines or ():
            progress.say(line)
        if lines is not None:
            return True
        batches.close()
        last = watch.last
        state = rolled_back(state, watch=watch, checkpoints=checkpoints, shapes=shapes, fresh=fresh, say=progress.say)
        batches = stream(start=last)
        memory.leave(state, saves=False)
        save(last)
        stopwatch.restart(last)
        return False

    try:
        known = shared(lambda: sorted(writers.known) if writers else [])
        cut_off = [name for name in due_at(start, experiment) if not any(x.startswith(f'{name}/') for x in known)]
        evaluate(start, {name: experiment.evals[name] for name in cut_off})
        step = start
        while step < last:
            step += 1
            waiting = time.perf_counter()
            failpoint('loop/batch')
            batch = next(batches)
            beat()
            stopwatch.waited(time.perf_counter() - waiting)
            logs = step % experiment.log.every == 0  # whatever the length: a run that is prolonged has the same rows
            with preemption.shielded():
                if memory.every_step:
                    memory.check(state, copies=False)
                with jax.set_mesh(mesh):
                    placed = place_batch(batch, mesh)
                    told = {}
                    if logs and experiment.log.source_gradients:
                        jax.block_until_ready(state)
                        paused, sources = time.perf_counter(), enumerate(experiment.data.parts)
                        told = {f'grad_norm_of/{name}': float(gradient_fn(state, placed, i)) for i, name in sources}
                        stopwatch.paused(time.perf_counter() - paused)
                    state, metrics = step_fn(state, placed, *watch.limits(step))
                watch.add(step, metrics)
                preemption.loses = step > start + 1
                failpoint('loop/step')
                if step == start + 1:
                    jax.block_until_ready(state)
                    preemption.loses = True  # not before, as what compiles for long may be ended by force
                    stopwatch.restart(step)  # what was compiled is not part of the rate

                due = due_at(step, experiment)
                saves = step % experiment.checkpoint.every == 0 or step == last
                memory.leave(state, saves=bool(due) and saves)
                if not sound(step, wait=logs or saves or bool(due)):
                    step = int(state.step)
                    continue
                if logs:
                    told |= records.settle(step)
                    values = {name: float(np.asarray(value)) for name, value in (metrics | told).items()}
                    if experiment.guard.skip:
                        values['skipped'] = float(watch.skipped)
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
                if preemption.due(step):
                    raise Preempted

            if due or saves:
                jax.block_until_ready(state)  # steps that are still computing belong to the rate, not to the pause
            paused = time.perf_counter()
            evaluate(step, due)
            if saves and (step == last or not watch.in_a_row):  # one that is gone back to is from before
                save(step)
            stopwatch.paused(time.perf_counter() - paused)
        checkpoints.wait()
        preemption.loses = False
        if summary := records.summary():
            progress.say(f'bad examples: {summary}')
        if max(start, last) not in shared(lambda: checkpoints.steps):
            raise UserError(
                f'the last step, {last}, could not be saved, so nothing is scored; make room, and give the '
                'same command: it goes on from the last checkpoint'
            )
    except Preempted:
        with preemption.shielded():
            if preemption.loses and sound(int(state.step), wait=True):
                save(int(state.step))
            checkpoints.wait()
        raise
    finally:
        progress.close()
        batches.close()
    return state


def due_at(step: int, experiment: Experiment) -> dict[str, Evaluation]:
    """The evaluations that follow a step."""
    return {name: e for name, e in experiment.evals.items() if e.every and step and step % e.every == 0}
