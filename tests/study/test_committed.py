"""The studies whose ledgers are committed: their reports come out of the ledgers again."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mmjax.config import load_file
from mmjax.study.matching import Fit, Size, resized, size_of
from mmjax.study.multiplicity import holm
from mmjax.study.plan import Plan
from mmjax.study.report import render
from mmjax.study.statistics import arm_difference, arm_mean
from mmjax.study.step_costs import known_costs
from mmjax.study.study import TOLERANCE, Study
from mmjax.study.summary import finals, summarise
from mmjax.train.metrics import rounded

ROOT = Path(__file__).parents[2] / 'experiments'
LEDGERS = sorted(path.parent for path in (ROOT / 'ledgers').glob('*/results.json'))
DRAWN = ('low', 'high', 'p', 'p_holm', 'equivalent', 'uses_all')
SOME = ('early', 'mid', 'late', 'isolated', 'only_image', 'only_text')  # a bootstrap of all arms takes minutes

# What models of a study see beside its words.
SEEN = {
    'fusion_relational': {'objects': ((6, 9), np.float32)},
    'fusion_synergy': {'image': ((8, 8, 1), np.uint8)},
}

each_ledger = pytest.mark.parametrize('directory', LEDGERS, ids=lambda path: path.name)


def study_of(directory: Path):
    return load_file(str(ROOT / f'{directory.name}.py'), kind=Study, function='study')


def read(directory: Path, name: str):
    return json.loads((directory / name).read_text())


def summed_anyhow(value: Any) -> Any:
    """Numbers to 13 digits: how many terms a processor adds at once decides the last bit of a sum."""
    if isinstance(value, dict):
        return {name: summed_anyhow(item) for name, item in value.items()}
    if isinstance(value, list):
        return [summed_anyhow(item) for item in value]
    return rounded(value, digits=13) if isinstance(value, float) else value


@each_ledger
def test_the_page_comes_out_of_the_results(directory):
    page = (directory / 'report.html').read_text()
    assert render(read(directory, 'results.json')) == page
    assert 'http://' not in page.replace('http://www.w3.org', '') and '<script' not in page


@each_ledger
def test_the_results_come_out_of_the_ledger(directory, monkeypatch):
    """By the config hashes that the study's file gives today: all that is told of every arm in every regime but for
    what is drawn, from a bootstrap of a few draws; the adjusted p-values from the raw ones; and with all draws whatever
    is told of some arms of the first regime.
    """
    study = study_of(directory)
    study.check()
    sizes = {
        (regime, arm): Fit(**fit)
        for regime, fits in read(directory, 'sizes.json')['fits'].items()
        for arm, fit in fits.items()
    }
    rows = {row['run']: row for row in map(json.loads, (directory / 'ledger.jsonl').open()) if 'run' in row}
    plan = Plan(study, sizes)
    clusters, costs = np.array(read(directory, 'clusters.json')['clusters']), known_costs(plan, directory)
    told = read(directory, 'results.json')
    for regime, arm in plan.places:
        done, entry = finals(plan, (regime, arm), rows), told['regimes'][regime][arm]
        assert len(done) == len(study.seeds), arm
        assert entry['score'] == pytest.approx(np.mean([row['metrics'][study.primary] for row in done]), abs=1e-5)
    declared = [
        arms[arm]['difference']
        for arms in told['regimes'].values()
        for arm in study.comparisons
        if arms[arm]['matched']
    ]
    p = np.array([*(difference['p'] for difference in declared), *[1.0] * (study.family - len(declared))])
    np.testing.assert_allclose([difference['p_holm'] for difference in declared], holm(p)[: len(declared)])

    first = study.regimes[0]
    some = Plan(study, {place: fit for place, fit in sizes.items() if place[0] == first and place[1] in SOME})
    again = json.loads(json.dumps(summarise(some, rows, clusters=clusters, costs=costs)))['regimes'][first]
    for arm, entry in again.items():
        wanted = dict(told['regimes'][first][arm])
        for found in (entry, wanted):
            found['difference'] = {k: v for k, v in found.get('difference', {}).items() if k != 'p_holm'}  # of fewer
        assert summed_anyhow(entry) == summed_anyhow(wanted), arm

    for module in ('summary', 'examined'):
        monkeypatch.setattr(f'mmjax.study.{module}.arm_difference', functools.partial(arm_difference, draws=20))
    monkeypatch.setattr('mmjax.study.summary.arm_mean', functools.partial(arm_mean, draws=20))
    few = json.loads(json.dumps(summarise(plan, rows, clusters=clusters, costs=costs)))
    assert summed_anyhow(undrawn(few)) == summed_anyhow(undrawn(told))


@pytest.mark.parametrize('name', SEEN)
def test_the_sizes_are_those_of_todays_code(name):
    """Of every design, in the last regime: parameters and FLOPs, equal to the reference's within the tolerance."""
    study = study_of(ROOT / name)
    fits = read(ROOT / 'ledgers' / name, 'sizes.json')['fits'][regime := study.regimes[-1]]
    b = study.base.batch_size
    batch = {field: jax.ShapeDtypeStruct((b, *shape), dtype) for field, (shape, dtype) in SEEN[name].items()}
    batch |= {'text': jax.ShapeDtypeStruct((b, study.base.data.transforms[-1].length), np.int32)}
    reference = getattr(size_of(study.base, batch), regime)
    for arm in (arm for arm in study.arms if arm.role == 'design'):
        fit = Fit(**fits[arm.name])
        found = size_of(resized(study.experiment(arm.name), fit.depth, fit.ratio), batch)
        assert found == Size(fit.parameters, fit.flops), arm.name
        gap = getattr(found, regime) / reference - 1
        assert gap == pytest.approx(fit.gap) and (not arm.matched or abs(gap) <= TOLERANCE[regime]), arm.name


def undrawn(told):
    """Without what a bootstrap draws, and what is concluded from that."""
    if isinstance(told, dict):
        return {name: undrawn(value) for name, value in told.items() if name not in DRAWN}
    return [undrawn(value) for value in told] if isinstance(told, list) else told


def test_there_is_one():
    assert LEDGERS
