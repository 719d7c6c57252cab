"""Doing what is missing of a study: tuning runs on validation, then fresh seeds at each arm's best rate."""

import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.errors import UserError
from mmjax.study.ledger import Ledger, packed
from mmjax.study.matching import Fit, match, size_of
from mmjax.study.plan import Place, Plan, Run
from mmjax.study.study import Study
from mmjax.train.metrics import finite, read_rows
from mmjax.train.run import shapes_of_batch, train

POLL_SECONDS = 5


def matched_sizes(study: Study) -> dict[Place, Fit]:
    """Every arm at the size of every regime; those beyond its tolerance too, which `Plan.left_out` names."""
    batch = shapes_of_batch(study.base)
    sizes = {}
    for regime in study.regimes:
        target = getattr(size_of(study.experiment(study.reference), batch), regime)
        for arm in study.arms:
            try:
                sizes[regime, arm.name] = match(study.experiment(arm.name), target=target, quantity=regime, batch=batch)
            except UserError as error:
                raise UserError(f'study {study.name}, arm {arm.name}: {error}') from error
    return sizes


def run_study(plan: Plan, directory: Path) -> None:
    """Does what is missing, until nothing is. Kill it at any time: what is in the ledger is done, a run resumes."""
    ledger = Ledger(directory, plan.study)
    # Runs that differ in their seed share what was compiled, but for the initialisation; so does one that resumes.
    jax.config.update('jax_compilation_cache_dir', str((directory / 'compiled').absolute()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    while runs := list(plan.missing(ledger.rows())):
        progressed = False
        for i, run in enumerate(runs):
            with ledger.claim(run.config) as mine:
                rows = ledger.rows()
                if not mine or run.key in rows:
                    continue
                print(f'[{i + 1}/{len(runs)}] {run.regime} {run.arm} {run.phase} rate {run.rate:g} seed {run.seed}')
                own = directory / 'runs' / run.config
                same = next((row for row in rows.values() if row['config'] == run.config), None)
                if same is None:
                    same = _trained(plan.study, run, own)
                    jax.clear_caches()
                told = {'run': run.key, 'config': run.config, 'regime': run.regime, 'arm': run.arm, 'phase': run.phase}
                ledger.add(same | told | {'rate': run.rate, 'seed': run.seed})
                for part in ('checkpoints', 'predictions'):  # the ledger has what is needed of them
                    shutil.rmtree(own / part, ignore_errors=True)
                progressed = True
        if not progressed:
            print('waiting for runs of another process', file=sys.stderr)
            time.sleep(POLL_SECONDS)


def _trained(study: Study, run: Run, directory: Path) -> dict[str, Any]:
    """Trains, and returns what the ledger keeps of it.

    A run whose loss is not finite at the end has `diverged` and counts with the score that its model then has: it is
    never dropped.
    """
    if (directory / 'results.json').exists() and not (directory / 'predictions').exists():
        shutil.rmtree(directory)  # of a ledger that was lost
    started = time.monotonic()
    results = train(run.experiment, workdir=str(directory), report=False)
    seconds = time.monotonic() - started
    losses = [row['loss'] for row in read_rows(directory / 'metrics.jsonl') if 'loss' in row][-1:]
    losses += [value for name, value in results.items() if name.endswith('/loss')]
    row: dict[str, Any] = {
        'metrics': {name: finite(value) for name, value in results.items()},
        'diverged': not all(math.isfinite(float(loss)) for loss in losses),
        'seconds': round(seconds, 1),
    }
    if run.phase == 'final':
        with np.load(directory / 'predictions' / f'{study.primary.split("/")[0]}.npz') as columns:
            order = np.argsort(columns['index'], kind='stable')
            correct = (columns['predicted'] == columns['target'])[order]
        row |= {'correct': packed(correct), 'examples': len(correct)}
    return row
