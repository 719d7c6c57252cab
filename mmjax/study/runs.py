"""Doing what is missing of a study: tuning runs on validation, then fresh seeds at each arm's best rate."""

import dataclasses
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax import config
from mmjax.experiment import Experiment
from mmjax.study.ledger import Ledger, packed
from mmjax.study.matching import Fit, match, resized, size_of
from mmjax.study.study import TOLERANCE, Study
from mmjax.train.metrics import read_rows
from mmjax.train.run import shapes_of_batch, train

POLL_SECONDS = 5

Sizes = Mapping[tuple[str, str], Fit]  # by (regime, arm)


@dataclass(frozen=True)
class Run:
    """One training: of an arm in a regime, for tuning (`phase` 'tune') or for the result ('final')."""

    regime: str
    arm: str
    phase: str
    rate: float
    seed: int
    experiment: Experiment

    @cached_property
    def config(self) -> str:
        """The hash of its config: equal ones, as of the reference in two regimes, are trained once."""
        return config.config_hash(self.experiment)[:16]

    @property
    def key(self) -> str:
        return f'{self.regime}-{self.arm}-{self.phase}-{self.config}'


def matched_sizes(study: Study) -> dict[tuple[str, str], Fit]:
    """Every arm at the size of every regime; those beyond its tolerance too, which `left_out` names."""
    batch = shapes_of_batch(study.base)
    sizes = {}
    for regime in study.regimes:
        target = getattr(size_of(study.experiment(study.reference), batch), regime)
        for arm in study.arms:
            sizes[regime, arm.name] = match(study.experiment(arm.name), target=target, quantity=regime, batch=batch)
    return sizes


def left_out(sizes: Sizes) -> dict[tuple[str, str], float]:
    """The gap of every arm that cannot match in a regime: it takes no part in it."""
    return {place: fit.gap for place, fit in sizes.items() if abs(fit.gap) > TOLERANCE[place[0]]}


def rates_of(study: Study, scores: Mapping[float, float]) -> list[float]:
    """The rates that an arm is to be tried with, given the scores so far: extended where the best is on the edge."""
    rates = list(study.rates)
    for _ in range(study.extensions):
        if not set(rates) <= set(scores):
            break
        best = best_rate({rate: scores[rate] for rate in rates})
        if best == rates[0]:
            rates.insert(0, rates[0] * rates[0] / rates[1])
        elif best == rates[-1]:
            rates.append(rates[-1] * rates[-1] / rates[-2])
        else:
            break
    return rates


def best_rate(scores: Mapping[float, float]) -> float:
    """Of equal scores the lower rate."""
    return max(sorted(scores), key=lambda rate: scores[rate])


def tuning_scores(study: Study, place: tuple[str, str], rows: Mapping[str, Mapping[str, Any]]) -> dict[float, float]:
    """By rate, the mean of `selection` over the tuning seeds, of the rates for which all of them are done."""
    found: dict[float, dict[int, float]] = {}
    for row in rows.values():
        if (row['regime'], row['arm'], row['phase']) == (*place, 'tune'):
            found.setdefault(row['rate'], {})[row['seed']] = row['metrics'][study.selection]
    complete = {rate: by_seed for rate, by_seed in found.items() if set(by_seed) >= set(study.tuning_seeds)}
    return {rate: float(np.mean([by_seed[s] for s in study.tuning_seeds])) for rate, by_seed in complete.items()}


def missing(study: Study, sizes: Sizes, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Run]:
    """What can be done now; seeds outermost, so that arms are comparable whenever a study is stopped."""
    wanted: list[tuple[str, tuple[str, str], float, int]] = []
    for place in sizes:
        if place not in left_out(sizes):
            scores = tuning_scores(study, place, rows)
            rates = rates_of(study, scores)
            if set(rates) <= set(scores):
                best = best_rate({rate: scores[rate] for rate in rates})
                wanted += [('final', place, best, seed) for seed in study.seeds]
            else:
                wanted += [('tune', place, rate, seed) for rate in rates for seed in study.tuning_seeds]
    for phase, (regime, arm), rate, seed in sorted(wanted, key=lambda run: (run[0] != 'tune', run[3])):
        run = Run(regime, arm, phase, rate, seed, _experiment(study, sizes[regime, arm], arm, phase, rate, seed))
        if run.key not in rows:
            yield run


def _experiment(study: Study, fit: Fit, arm: str, phase: str, rate: float, seed: int) -> Experiment:
    """A tuning run reads the split of `selection` alone: the reported one is not looked at before the rates are."""
    experiment = resized(study.experiment(arm, rate=rate, seed=seed), fit.depth, fit.ratio)
    if phase == 'final':
        return experiment
    name = study.selection.split('/')[0]
    return dataclasses.replace(experiment, evals={name: experiment.evals[name]})


def run_study(study: Study, directory: Path, sizes: Sizes) -> None:
    """Does what is missing, until nothing is. Kill it at any time: what is in the ledger is done, a run resumes."""
    ledger = Ledger(directory, study)
    # All seeds of an arm, and runs that are started again, share what was compiled.
    jax.config.update('jax_compilation_cache_dir', str((directory / 'compiled').absolute()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
    while runs := list(missing(study, sizes, ledger.rows())):
        progressed = False
        for i, run in enumerate(runs):
            with ledger.claim(run.config) as mine:
                rows = ledger.rows()
                if not mine or run.key in rows:
                    continue
                print(f'[{i + 1}/{len(runs)}] {run.regime} {run.arm} {run.phase} rate {run.rate:g} seed {run.seed}')
                same = next((row for row in rows.values() if row['config'] == run.config), None)
                if same is None:
                    same = _trained(study, run, directory / 'runs' / run.config)
                    jax.clear_caches()
                told = {'run': run.key, 'config': run.config, 'regime': run.regime, 'arm': run.arm, 'phase': run.phase}
                ledger.add(same | told | {'rate': run.rate, 'seed': run.seed})
                progressed = True
        if not progressed:
            print('waiting for runs of another process', file=sys.stderr)
            time.sleep(POLL_SECONDS)


def _trained(study: Study, run: Run, directory: Path) -> dict[str, Any]:
    """Trains, and returns what the ledger keeps of it; config and metrics stay in the directory, the rest goes."""
    started = time.monotonic()
    results = train(run.experiment, workdir=str(directory))
    seconds = time.monotonic() - started
    losses = [row['loss'] for row in read_rows(directory / 'metrics.jsonl') if 'loss' in row]
    row = {
        'metrics': results,
        'diverged': bool(losses) and not (isinstance(losses[-1], float) and math.isfinite(losses[-1])),
        'seconds': round(seconds, 1),
    }
    if run.phase == 'final':
        with np.load(directory / 'predictions' / f'{study.primary.split("/")[0]}.npz') as columns:
            order = np.argsort(columns['index'], kind='stable')
            row['correct'] = packed((columns['predicted'] == columns['target'])[order])
    for part in ('checkpoints', 'predictions', 'tensorboard'):
        shutil.rmtree(directory / part, ignore_errors=True)
    return row
