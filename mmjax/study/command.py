"""`mmjax study`: plans, does what is missing, writes results.json and report.html."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmjax import config
from mmjax.data import Data
from mmjax.errors import UserError
from mmjax.study.clusters import clusters_of
from mmjax.study.ledger import Ledger
from mmjax.study.matching import Fit
from mmjax.study.multiplicity import smallest_p
from mmjax.study.outlook import outlook
from mmjax.study.plan import Plan, Rows
from mmjax.study.report import write_report
from mmjax.study.runs import matched_sizes, run_study, seconds_of_a_run
from mmjax.study.step_costs import known_costs, measure_costs
from mmjax.study.study import Study
from mmjax.study.summary import summarise
from mmjax.train.files import read_json, write_json
from mmjax.train.lanes import start_of_lanes
from mmjax.train.manifest import manifest, record_manifest
from mmjax.train.prepare import shapes_of_batch


def study_command(study: Study, directory: Path, *, dry_run: bool = False, together: int = 1) -> dict[str, Any]:
    """Runs a study in a directory: manifest.json, ledger.jsonl, sizes.json, clusters.json, costs.json, results.json,
    report.html.

    together: see `run_study`. Returns, flat: with `dry_run` how much there is to do, else each arm's score by regime.

    Raises:
        UserError: on a study that could not show what it declares, or a directory of another one, or of other data.
    """
    study.check()
    for data in _all_data(study):
        data.source.open()  # missing data are told now, not after hours of tuning
    ledger = Ledger(directory, study)
    plan = Plan(study, _sizes(study, directory))
    for (regime, arm), gap in plan.left_out.items():
        print(f'{regime}: {arm} is left out, it cannot be matched: {gap:+.1%}', file=sys.stderr)
    _check_starts(plan, ledger.rows())
    if dry_run:
        return _told(plan, ledger.rows())
    _record(plan, directory)
    clusters = _clusters(study, directory)
    run_study(plan, directory, together=together)
    measure_costs(plan, directory, ledger)
    summary = summarise(plan, ledger.rows(), clusters=clusters, costs=known_costs(plan, directory))
    write_json(directory / 'results.json', summary)
    write_report(summary, directory / 'report.html')
    print(f'report: {directory / "report.html"}', file=sys.stderr)
    return {
        f'{regime}/{arm}': entry['score']
        for regime, arms in summary['regimes'].items()
        for arm, entry in arms.items()
        if 'score' in entry
    }


def _record(plan: Plan, directory: Path) -> None:
    """Where its runs come from, in manifest.json. Raises UserError where the data have changed since the first."""
    reference = plan.sizes[plan.study.regimes[0], plan.study.reference]
    now = manifest(plan.study.base, parameters=reference.parameters, config_file=None)
    record_manifest(directory, now, allow=('code', 'packages', 'parameters'))  # the ledger tells of each run


def _all_data(study: Study) -> list[Data]:
    of_arms = [study.experiment(arm.name) for arm in study.arms]
    data = [part for e in of_arms for part in (*e.data.parts.values(), *(v.data for v in e.evals.values()))]
    data += [part.data for part in (study.probes, study.explanation) if part is not None]
    return list({repr(part): part for part in data}.values())


def _told(plan: Plan, rows: Rows) -> dict[str, Any]:
    study = plan.study
    ahead = outlook(plan, rows)
    if ahead.hours is None:
        ahead = outlook(plan, rows, seconds=seconds_of_a_run(study))
    return {
        'runs done': ahead.done,
        'runs left': ahead.left,
        'hours left, about': round(ahead.hours or 0, 2),
        'comparisons': study.family,
        'smallest p of seeds': smallest_p(len(study.seeds)),
    }


def _check_starts(plan: Plan, rows: Rows) -> None:
    """Raises UserError where an arm that is to train starts from a run that is not there, or does not fit."""
    for first, *_ in plan.missing(rows):
        experiment = first.experiment
        if experiment.init_from.given:
            try:
                start_of_lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build())
            except UserError as error:
                raise UserError(f'study {plan.study.name}, arm {first.arm} at equal {first.regime}: {error}') from error


def _sizes(study: Study, directory: Path) -> dict[tuple[str, str], Fit]:
    """Solved once, and stored with the hash of what they were solved for."""
    path = directory / 'sizes.json'
    arms = [(arm.name, config.config_hash(study.experiment(arm.name)), arm.matched) for arm in study.arms]
    of = [study.reference, list(study.regimes), [list(arm) for arm in arms]]
    if path.exists() and (stored := read_json(path))['of'] == of:
        return {(r, a): Fit(**fit) for r, fits in stored['fits'].items() for a, fit in fits.items()}
    print('matching sizes', file=sys.stderr)
    sizes = matched_sizes(study)
    fits: dict[str, dict[str, Any]] = {regime: {} for regime in study.regimes}
    for (regime, arm), fit in sizes.items():
        fits[regime][arm] = dataclasses.asdict(fit)
    write_json(path, {'of': of, 'fits': fits})
    return sizes


def _clusters(study: Study, directory: Path) -> np.ndarray:
    """The image of every example of the reported split, in its order; stored, so that a report needs no data."""
    data = study.base.evals[study.primary_split].data
    path, of = directory / 'clusters.json', [config.config_hash(data), study.clusters]
    if path.exists() and (stored := read_json(path))['of'] == of:
        return np.array(stored['clusters'])
    clusters = clusters_of(data, study.clusters, asker=f'study {study.name}')
    write_json(path, {'of': of, 'clusters': clusters.tolist()})
    return clusters
