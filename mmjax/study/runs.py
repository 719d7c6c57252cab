"""Doing what is missing of a study: tuning runs on validation, then fresh seeds at each arm's best rate."""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mmjax.errors import UserError
from mmjax.optim import WarmupConstant
from mmjax.study.ledger import Ledger
from mmjax.study.matching import Fit, as_it_is, match, size_of
from mmjax.study.outlook import outlook
from mmjax.study.plan import Place, Plan, Run
from mmjax.study.study import Study
from mmjax.study.worker import Worker
from mmjax.train.lanes import Lanes
from mmjax.train.prepare import shapes_of_batch

POLL_SECONDS = 5
TIMED_STEPS = 50
CONSTANT = WarmupConstant(peak=1e-3, warmup=0)


def matched_sizes(study: Study) -> dict[Place, Fit]:
    """Every arm at the size of every regime; those beyond its tolerance too, which `Plan.left_out` names."""
    sizes = {}
    batch = shapes_of_batch(study.base)
    reference = size_of(study.experiment(study.reference), batch)
    for regime in study.regimes:
        target = getattr(reference, regime)
        for arm in study.arms:
            try:
                solve = match if arm.matched else as_it_is
                sizes[regime, arm.name] = solve(study.experiment(arm.name), target=target, quantity=regime, batch=batch)
            except UserError as error:
                raise UserError(f'study {study.name}, arm {arm.name}: {error}') from error
    return sizes


def seconds_of_a_run(study: Study) -> float:
    """How long the reference trains, from its first steps; without compiling, evaluating and probing."""
    experiment = study.experiment(study.reference)
    steps = min(experiment.steps, TIMED_STEPS)
    some = dataclasses.replace(experiment, steps=steps, optim=dataclasses.replace(experiment.optim, schedule=CONSTANT))
    lanes = Lanes(some, shapes_of_batch(some), some.mesh.build())
    lanes.train([some])
    started = time.monotonic()
    lanes.train([some])
    return (time.monotonic() - started) * experiment.steps / steps


def run_study(plan: Plan, directory: Path, *, together: int = 1) -> None:
    """Does what is missing, until nothing is. Kill it at any time: what is in the ledger is done.

    together: how many runs train side by side in one program.
    """
    ledger = Ledger(directory, plan.study)
    # So that what a killed process, or another one, compiled is not compiled again.
    jax.config.update('jax_compilation_cache_dir', str((directory / 'compiled').absolute()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    worker = Worker(plan.study, together=together)
    waiting = False
    while todo := list(plan.missing(ledger.rows())):
        for runs in todo:
            with ledger.claim(runs[0].program) as mine:
                if mine:
                    _do(plan, runs, worker, ledger)
                    waiting = False
                    break
        else:
            if not waiting:
                print('waiting for runs of another process', file=sys.stderr)
            waiting = True
            time.sleep(POLL_SECONDS)


def _do(plan: Plan, runs: Sequence[Run], worker: Worker, ledger: Ledger) -> None:
    """Trains an arm's missing runs, and those of equal config, as of the reference in two regimes, only once."""
    started, trained = time.monotonic(), 0
    rows = ledger.rows()
    runs = [run for run in runs if run.key not in rows]
    known = {_work(row): row for row in rows.values()}
    for run in runs:
        if run.work in known:
            ledger.add(known[run.work] | run.told)
    runs = [run for run in runs if run.work not in known]
    while runs:
        now, runs = runs[: worker.together], runs[worker.together :]
        for run, row in zip(now, worker.work(now), strict=True):
            ledger.add(row | run.told)
        trained += len(now)
        ahead = outlook(plan, ledger.rows())
        first = now[0]
        each = (time.monotonic() - started) / trained
        print(
            f'{first.regime} {first.arm} {first.phase} rate {first.rate:.2g} seed {first.seed}'
            f'{f" and {len(now) - 1} more" if now[1:] else ""}: {each:.1f} s a run, {ahead.left} left, '
            f'about {ahead.hours or 0:.2g} h of one process',
            file=sys.stderr,
            flush=True,
        )


def _work(row: Mapping[str, Any]) -> str:
    """The `Run.work` of a row."""
    return row['run'].removeprefix(f'{row["regime"]}-{row["arm"]}-')
