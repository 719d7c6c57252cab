"""The studies whose ledgers are committed: their reports come out of the ledgers again."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmjax.config import load_file
from mmjax.study.matching import Fit
from mmjax.study.multiplicity import holm
from mmjax.study.plan import Plan
from mmjax.study.report import render
from mmjax.study.step_costs import known_costs
from mmjax.study.study import Study
from mmjax.study.summary import finals, summarise

ROOT = Path(__file__).parents[2] / 'experiments'
LEDGERS = sorted(path.parent for path in (ROOT / 'ledgers').glob('*/results.json'))
SOME = ('early', 'mid', 'late', 'isolated', 'only_image', 'only_text')  # a bootstrap of all arms takes minutes

each_ledger = pytest.mark.parametrize('directory', LEDGERS, ids=lambda path: path.name)


def study_of(directory: Path):
    return load_file(str(ROOT / f'{directory.name}.py'), kind=Study, function='study')


def read(directory: Path, name: str):
    return json.loads((directory / name).read_text())


@each_ledger
def test_the_page_comes_out_of_the_results(directory):
    page = (directory / 'report.html').read_text()
    assert render(read(directory, 'results.json')) == page
    assert 'http://' not in page.replace('http://www.w3.org', '') and '<script' not in page


@each_ledger
def test_the_results_come_out_of_the_ledger(directory):
    """By the config hashes that the study's file gives today: means, rates and adjusted p-values of all regimes, and
    all that is told of some arms of the first.
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
    told = read(directory, 'results.json')['regimes']
    for regime, arm in plan.places:
        done, entry = finals(plan, (regime, arm), rows), told[regime][arm]
        assert len(done) == len(study.seeds), arm
        assert entry['score'] == pytest.approx(np.mean([row['metrics'][study.primary] for row in done]), abs=1e-5)
        assert entry['tuning'] == {f'{r:.3g}': score for r, score in plan.tuning((regime, arm), rows).items()}
        assert entry['rate'] == pytest.approx(done[0]['rate'], rel=0.01)
    declared = [arms[arm]['difference'] for arms in told.values() for arm in study.comparisons if arms[arm]['matched']]
    p = np.array([*(difference['p'] for difference in declared), *[1.0] * (study.family - len(declared))])
    np.testing.assert_allclose([difference['p_holm'] for difference in declared], holm(p)[: len(declared)])

    clusters = np.array(read(directory, 'clusters.json')['clusters'])
    some = Plan(
        study, {place: fit for place, fit in sizes.items() if place[0] == study.regimes[0] and place[1] in SOME}
    )
    again = json.loads(json.dumps(summarise(some, rows, clusters=clusters, costs=known_costs(plan, directory))))[
        'regimes'
    ][study.regimes[0]]
    for arm, entry in again.items():
        for found in (entry, told[study.regimes[0]][arm]):
            found.get('difference', {}).pop('p_holm', None)  # of a smaller family
        assert entry == told[study.regimes[0]][arm], arm


def test_there_is_one():
    assert LEDGERS
