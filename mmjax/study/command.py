"""`mmjax study`: plans, does what is missing, writes results.json and report.html."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmjax import config
from mmjax.data import Tfds
from mmjax.errors import UserError
from mmjax.study.ledger import Ledger
from mmjax.study.matching import Fit
from mmjax.study.multiplicity import smallest_p
from mmjax.study.report import write_report
from mmjax.study.runs import Sizes, left_out, matched_sizes, missing, run_study
from mmjax.study.study import Study
from mmjax.study.summary import summarise
from mmjax.train.files import read_json, write_json


def study_command(study: Study, directory: Path, *, dry_run: bool = False) -> dict[str, Any]:
    """Runs a study in a directory: ledger.jsonl, sizes.json, clusters.json, results.json, report.html, runs/.

    Returns, flat: with `dry_run` how much there is to do, else the score of every arm by regime.

    Raises:
        UserError: on a study that could not show what it declares, or a directory of another one.
    """
    study.check()
    for evaluation in study.base.evals.values():
        evaluation.data.source.open()  # missing data are told now, not after hours of tuning
    rows = Ledger(directory, study).rows()
    sizes = _sizes(study, directory)
    for (regime, arm), gap in left_out(sizes).items():
        print(f'{regime}: {arm} is left out, it cannot be matched: {gap:+.1%}', file=sys.stderr)
    if dry_run:
        return _plan(study, sizes, rows)
    clusters = _clusters(study, directory)
    run_study(study, directory, sizes)
    summary = summarise(study, sizes, Ledger(directory, study).rows(), clusters=clusters)
    write_json(directory / 'results.json', summary)
    write_report(summary, directory / 'report.html')
    print(f'report: {directory / "report.html"}', file=sys.stderr)
    return {
        f'{regime}/{arm}': entry['score']
        for regime, arms in summary['regimes'].items()
        for arm, entry in arms.items()
        if 'score' in entry
    }


def _plan(study: Study, sizes: Sizes, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Runs and hours, as far as they are known: grids may be extended. Hours from the runs that are done."""
    places = [place for place in sizes if place not in left_out(sizes)]
    tuning = len(places) * len(study.rates) * len(study.tuning_seeds)
    total = tuning + len(places) * len(study.seeds)
    seconds = [row['seconds'] for row in rows.values()]
    told: dict[str, Any] = {'runs': total, 'done': len(rows), 'missing now': len(list(missing(study, sizes, rows)))}
    if seconds:
        told['hours left, about'] = round((total - len(rows)) * float(np.mean(seconds)) / 3600, 2)
    return told | {
        'comparisons': study.family,
        'smallest p': smallest_p(len(study.seeds)),
    }


def _sizes(study: Study, directory: Path) -> dict[tuple[str, str], Fit]:
    """Solved once, and stored with the hash of what they were solved for."""
    path = directory / 'sizes.json'
    arms = [(arm.name, config.config_hash(study.experiment(arm.name))) for arm in study.arms]
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
    path = directory / 'clusters.json'
    if path.exists():
        return np.array(read_json(path)['clusters'])
    source = study.base.evals[study.primary.split('/')[0]].data.source
    if not study.clusters:
        clusters = list(range(len(source.open())))
    elif isinstance(source, Tfds):
        reader = dataclasses.replace(source, fields={'cluster': study.clusters}).open()
        clusters = [int(example['cluster']) for example in reader.read(range(len(reader)))]
    else:
        raise UserError(f'study {study.name}: clusters are read from a Tfds source, not from {type(source).__name__}')
    write_json(path, {'clusters': clusters})
    return np.array(clusters)
