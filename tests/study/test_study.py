"""A study as a whole, with a training that takes no time: what it runs, when it stops, what it tells."""

import dataclasses
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmjax.config import config_hash
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.late import Late
from mmjax.fusion.mid import Mid
from mmjax.study import command
from mmjax.study.command import study_command
from mmjax.study.ledger import Ledger, packed, unpacked
from mmjax.study.matching import Fit, resized, smallest_depth
from mmjax.study.outlook import Outlook, outlook
from mmjax.study.plan import Plan, best_rate
from mmjax.study.probes import probes
from mmjax.study.report import render
from mmjax.study.runs import matched_sizes, run_study
from mmjax.study.statistics import LEAST_P
from mmjax.study.study import TOLERANCE, Arm, Study, quick
from mmjax.study.summary import summarise
from mmjax.study.worker import Worker
from tests.train import toy

EXAMPLES = 21
BEST = {'early': 3e-3, 'late': 1e-3}  # of `late` beyond the grid
SKILL = {'early': 0.9, 'late': 0.5}


def study(**changes) -> Study:
    evals = {
        'validation': Evaluation(toy.data(rows=16), Accuracy()),
        'test': Evaluation(toy.data(rows=EXAMPLES), Accuracy()),
    }
    settings = {
        'name': 'toy',
        'base': toy.experiment(evals=evals),
        'arms': (Arm('early'), Arm('late', ('model.fusion=late',))),
        'reference': 'early',
        'regimes': ('parameters',),
        'rates': (2e-3, 3e-3, 4.5e-3, 6e-3, 8e-3),
        'seeds': tuple(range(10, 16)),
        'quick': ('--steps', '2'),
    }
    return Study(**(settings | changes))


@pytest.fixture
def trained(monkeypatch):
    """Replaces training and matching; returns the experiments that were trained."""
    done = []

    def work(self, given):
        rows = []
        for run in given:
            experiment = run.experiment
            arm, rate = type(experiment.model.fusion).__name__.lower(), experiment.optim.schedule.peak
            score = SKILL[arm] - abs(np.log(rate / BEST[arm])) / 10
            row = {
                'metrics': {f'{name}/accuracy': score for name in experiment.evals},
                'diverged': rate > 7e-3,
                'curve': {'loss': [1.0, 0.1], 'grad_norm/image': [1.0, 1.0], 'grad_norm/text': [3.0, 3.0]},
                'seconds': 1.0,
            }
            if 'test' in experiment.evals:
                right = np.random.default_rng(experiment.seed).random(EXAMPLES) < SKILL[arm]
                row |= {'correct': packed(right), 'examples': EXAMPLES}
            done.append(experiment)
            rows.append(row)
        return rows

    monkeypatch.setattr(Worker, 'work', work)
    monkeypatch.setattr(command, 'measure_costs', lambda plan, directory, ledger: None)
    fit = Fit(depth=2, ratio=4.0, parameters=1000, flops=10_000, gap=0.0)
    monkeypatch.setattr(
        command,
        'matched_sizes',
        lambda study: {(regime, arm.name): fit for regime in study.regimes for arm in study.arms},
    )
    return done


def rates(done, arm, seeds):
    return sorted(
        {
            round(e.optim.schedule.peak, 6)
            for e in done
            if type(e.model.fusion).__name__.lower() == arm and e.seed in seeds
        }
    )


def test_tunes_on_validation_then_runs_fresh_seeds(tmp_path, trained):
    found = study_command(study(), tmp_path)
    tuning = [e for e in trained if e.seed in (0, 1)]
    final = [e for e in trained if e.seed >= 10]
    assert all(set(e.evals) == {'validation'} for e in tuning)
    assert rates(trained, 'early', (0, 1)) == [0.002, 0.003, 0.0045, 0.006, 0.008]
    # The best of `late` is on the lower edge: the grid grows by its own ratio until it is not.
    assert rates(trained, 'late', (0, 1)) == [0.000889, 0.001333, 0.002, 0.003, 0.0045, 0.006, 0.008]
    assert len(final) == 12 and rates(trained, 'early', range(10, 16)) == [0.003]
    assert rates(trained, 'late', range(10, 16)) == [0.000889]
    right = {
        arm: [np.random.default_rng(seed).random(EXAMPLES) < SKILL[arm] for seed in range(10, 16)] for arm in SKILL
    }
    assert found == {f'parameters/{arm}': pytest.approx(np.mean(right[arm])) for arm in SKILL}
    told = json.loads((tmp_path / 'results.json').read_text())['regimes']['parameters']
    assert told['late']['difference']['estimate'] == pytest.approx(np.mean(right['late']) - np.mean(right['early']))
    assert told['late']['difference']['p_holm'] == told['late']['difference']['p'] < 0.05  # a family of one
    assert told['late']['rate_on_edge'] and not told['early']['rate_on_edge']
    constant = SKILL['late'] - abs(np.log(8 / 9)) / 10 - SKILL['early']  # its rate is 8/9 of the best one
    assert told['late']['difference']['p_of_seeds'] == 2 / 2**6  # each of six seeds is below
    assert told['early']['expected_best'] < max(told['early']['tuning'].values())
    spread = told['late']['over_seeds']['validation/accuracy']['over']['early']
    assert spread == {'estimate': pytest.approx(constant, abs=1e-3), 'half_width': pytest.approx(0, abs=1e-9)}
    assert told['early']['diverged_in_tuning'] == 2 and told['late']['diverged_in_tuning'] == 2  # the largest rate's
    page = (tmp_path / 'report.html').read_text()
    assert '2 diverged' in page and 'fresh seeds' in page and '≤ ' not in page
    assert 'edge' in page and f'{100 * np.mean(right["early"]):.2f}' in page
    assert study_command(study(), tmp_path) == found and len(trained) == 10 + 14 + 12  # nothing is done twice


def test_killed_anywhere_it_does_each_run_once(tmp_path, trained, monkeypatch):
    work, calls = Worker.work, []

    def dies(*args):
        calls.append(args)
        if len(calls) % 7 == 0:
            raise KeyboardInterrupt
        return work(*args)

    monkeypatch.setattr(Worker, 'work', dies)
    for _ in range(20):
        try:
            study_command(study(), tmp_path)
            break
        except KeyboardInterrupt:
            with (tmp_path / 'ledger.jsonl').open('a') as file:
                file.write('{"run": "cut o')
    assert len(trained) == 36 == len({config_hash(e) for e in trained})
    rows = Ledger(tmp_path, study()).rows()
    assert len(rows) == 36 and sum(row['phase'] == 'final' for row in rows.values()) == 12
    assert all(row['diverged'] == (row['rate'] > 7e-3) for row in rows.values())


def test_what_another_process_does_is_left_to_it(tmp_path, trained):
    ledger = Ledger(tmp_path, study())
    with ledger.claim('abc') as mine, Ledger(tmp_path, study()).claim('abc') as too:
        assert mine and not too
    with ledger.claim('abc') as again:
        assert again


def test_two_at_one_ledger_share_the_runs(tmp_path, trained, monkeypatch):
    """Threads here, whose locks exclude each other as those of processes do."""
    work, workers, both = Worker.work, [], threading.Barrier(2, timeout=60)

    def slowly(*args):
        workers.append(threading.get_ident())
        if workers.count(workers[-1]) == 1:
            both.wait()  # neither is done before the other has begun
        return work(*args)

    monkeypatch.setattr(Worker, 'work', slowly)
    monkeypatch.setattr('mmjax.study.runs.POLL_SECONDS', 0.01)
    plans = [Plan(study(), command.matched_sizes(study())) for _ in range(2)]
    with ThreadPoolExecutor(2) as two:
        list(two.map(lambda plan: run_study(plan, tmp_path), plans))
    assert len(set(workers)) == 2
    assert len(trained) == 36 == len({config_hash(e) for e in trained})
    lines = (tmp_path / 'ledger.jsonl').read_text().splitlines()
    assert len(lines) == 1 + 36 == 1 + len(Ledger(tmp_path, study()).rows())


HOLDS = """
import fcntl, sys, time
with open(sys.argv[1], 'a') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print('held', flush=True)
    time.sleep(600)
"""


def test_the_claim_of_a_killed_process_is_void(tmp_path, trained):
    ledger = Ledger(tmp_path, study())
    with ledger.claim('abc'):
        pass
    command_ = [sys.executable, '-c', HOLDS, str(tmp_path / 'claims' / 'abc')]
    with subprocess.Popen(command_, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == 'held\n'
            with ledger.claim('abc') as mine:
                assert not mine
        finally:
            other.kill()
    with ledger.claim('abc') as mine:
        assert mine


def test_equal_experiments_of_two_regimes_are_trained_once(tmp_path, trained):
    study_command(study(regimes=('parameters', 'flops'), seeds=tuple(range(10, 17))), tmp_path)
    assert len(trained) == 24 + 14
    assert len(Ledger(tmp_path, study()).rows()) == 2 * len(trained)


def test_a_report_is_made_again_from_the_ledger_alone(tmp_path, trained):
    study_command(study(), tmp_path)
    told = json.loads((tmp_path / 'results.json').read_text())
    fits = {
        (regime, arm): Fit(**fit)
        for regime, arms in json.loads((tmp_path / 'sizes.json').read_text())['fits'].items()
        for arm, fit in arms.items()
    }
    again = summarise(Plan(study(), fits), Ledger(tmp_path, study()).rows(), clusters=np.arange(EXAMPLES), costs={})
    assert json.loads(json.dumps(again)) == told
    assert render(told) == (tmp_path / 'report.html').read_text()
    told['regimes']['parameters']['late']['difference'] |= {'p': LEAST_P, 'p_holm': 2 * LEAST_P}
    assert '≤ 0.0004' in render(told)  # so many draws cannot tell less
    assert '<script' not in render(told) and 'http' not in render(told).replace('http-equiv', '')


def test_a_dry_run_trains_nothing(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(command, 'seconds_of_a_run', lambda study: 90.0)
    told = study_command(study(), tmp_path, dry_run=True)
    hours = {'hours left, about': 0.8}
    assert not trained and told == {
        'runs done': 0, 'runs left': 20 + 12, 'comparisons': 1, 'smallest p of seeds': 2 / 2**6
    } | hours  # fmt: skip


def test_a_dry_run_counts_what_the_study_now_asks_for(tmp_path, trained):
    study_command(study(), tmp_path)
    again = study_command(study(), tmp_path, dry_run=True)
    assert (again['runs done'], again['runs left'], again['hours left, about']) == (36, 0, 0)
    changed = study_command(study(seeds=tuple(range(20, 26))), tmp_path, dry_run=True)
    assert (changed['runs done'], changed['runs left']) == (24, 12)


def test_what_is_left_takes_as_long_as_what_was_done_of_its_phase(trained):
    fit = Fit(depth=2, ratio=4.0, parameters=1000, flops=10_000, gap=0.0)
    plan = Plan(study(), {('parameters', arm): fit for arm in ('early', 'late')})
    assert outlook(plan, {}) == Outlook(0, 32, None) and outlook(plan, {}, seconds=36.0).hours == pytest.approx(0.32)
    row = {'metrics': {'validation/accuracy': 0.5}}
    tuned = [run for run in next(plan.wanted({})) if run.phase == 'tune']
    rows = {run.key: row | {'seconds': 10.0} for run in tuned}  # a plateau: the rate in the middle is chosen
    final = [run for run in next(plan.wanted(rows)) if run.phase == 'final']
    rows |= {run.key: row | {'seconds': 100.0} for run in final[:4]}
    assert outlook(plan, rows) == Outlook(14, 2 + 10 + 6, (8 * 100 + 10 * 10) / 3600)


def test_what_two_regimes_share_is_left_once(trained):
    fit, other = (Fit(depth, ratio=4.0, parameters=1000, flops=10_000, gap=0.0) for depth in (2, 1))
    regimes = ('parameters', 'flops')
    same = Plan(study(regimes=regimes), {(regime, arm): fit for regime in regimes for arm in ('early', 'late')})
    assert outlook(same, {}).left == 20 + 12
    sizes = {(r, a): other if (r, a) == ('flops', 'late') else fit for r in regimes for a in ('early', 'late')}
    assert outlook(Plan(study(regimes=regimes), sizes), {}).left == 30 + 18
    row = {'metrics': {'validation/accuracy': 0.5}, 'seconds': 1.0}
    first = next(same.wanted({}))
    rows = {run.key: row for run in first}  # the reference is tuned, in one regime
    assert outlook(same, rows).left == 6 + 10 + 6
    rows |= {run.key: row for run in next(same.wanted(rows))}  # and done
    assert outlook(same, rows).left == 10 + 6


def test_an_arm_beyond_the_tolerance_is_left_out(tmp_path, trained, monkeypatch, capsys):
    sizes = {('parameters', 'early'): Fit(2, 4.0, 1000, 1, 0.0), ('parameters', 'late'): Fit(2, 4.0, 1100, 1, 0.1)}
    monkeypatch.setattr(command, 'matched_sizes', lambda study: sizes)
    assert set(study_command(study(), tmp_path)) == {'parameters/early'}
    assert 'late is left out, it cannot be matched: +10.0%' in capsys.readouterr().err
    assert 'late (+10.0%)' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'reference': 'erly'}, "no arm 'erly'; did you mean 'early'"),
        ({'rates': (1e-3, 2e-3)}, 'give at least 5'),
        ({'seeds': (10, 11, 12)}, '3 seeds reach p = 0.25 at best, but 1 declared comparisons need 6 seeds'),
        ({'seeds': (0, 1, 2, 3, 4, 5)}, 'must be fresh'),
        ({'regimes': ('flop',)}, "no regime 'flop'; did you mean 'flops'"),
        ({'primary': 'tset/accuracy'}, "no evaluation for tset/accuracy; did you mean 'test'"),
        ({'primary': 'validation/accuracy'}, 'selects on the split'),
        ({'references': {'chance': 50.0}}, 'accuracies are from 0 to 1'),
        ({'primary': 'test/loss'}, 'must be SPLIT/accuracy'),
        ({'arms': (Arm('early'), Arm('late', ('model.fusion=lat',)))}, "did you mean 'late'"),
        ({'arms': (Arm('early'), Arm('early'))}, 'the same name'),
    ],
)
def test_what_could_show_nothing_is_told_before_anything_runs(tmp_path, trained, changes, told):
    with pytest.raises(UserError, match=told):
        study_command(study(**changes), tmp_path)
    assert not trained


def test_a_missing_checkpoint_is_told_before_anything_trains(tmp_path, trained):
    arms = (Arm('early'), Arm('late', ('model.fusion=late', '--init-from.run', str(tmp_path / 'gone'))))
    with pytest.raises(UserError, match=r'arm late at equal parameters: init_from: .*gone is no run with a checkpoint'):
        study_command(study(arms=arms), tmp_path, dry_run=True)
    assert not trained


def test_a_ledger_of_another_study_is_refused(tmp_path, trained):
    study_command(study(), tmp_path)
    with pytest.raises(UserError, match="is of the study 'toy', not of 'other'"):
        study_command(study(name='other'), tmp_path)


def test_data_that_have_changed_are_refused(tmp_path, trained, monkeypatch):
    study_command(study(), tmp_path)
    path = tmp_path / 'manifest.json'
    before = json.loads(path.read_text())
    assert before['data'] == {'train': 'toy', 'validation': 'toy', 'test': 'toy'} and before['parameters'] == 1000
    path.write_text(json.dumps(before | {'data': before['data'] | {'test': 'another'}}))
    with pytest.raises(UserError, match=r'has changed since it began: data\.test was another and is toy'):
        study_command(study(), tmp_path)


def test_quick_is_small_and_declares_nothing():
    small = quick(study(probes=probes(('image', 'text'), toy.data(rows=16), additive=100)))
    assert small.probes is not None and small.probes.additive == 16 and small.explanation is None
    assert small.base.steps == 2 and not small.comparisons and len(small.tuning_seeds) == 1
    small.check()


def test_sizes_match_and_only_the_trunk_changes():
    arms = (Arm('early'), *(Arm(n, (f'model.fusion={n}',)) for n in ('late', 'graph')))
    wide = dataclasses.replace(study().base, model=toy.model().clone(fusion=toy.model().fusion.clone(depth=6)))
    given = study(base=wide, arms=arms, regimes=('parameters', 'flops'))
    for (regime, arm), fit in matched_sizes(given).items():
        assert arm == 'graph' or abs(fit.gap) <= TOLERANCE[regime], (regime, arm, fit)
        if arm == 'early':
            assert (fit.depth, fit.ratio, fit.gap) == (6, 4.0, 0.0)
        assert (fit.ratio is None) == (arm == 'graph')  # which has blocks to take their attention from, not their MLP
        plain = given.experiment(arm)
        model = resized(plain, fit.depth, fit.ratio).model
        assert model.encoders == plain.model.encoders and model.decoders == plain.model.decoders
        assert type(model.fusion) is type(plain.model.fusion)


def test_rows_of_the_study_as_it_was_do_not_count(tmp_path, trained):
    study_command(study(), tmp_path)
    before = len(trained)
    changed = study(base=dataclasses.replace(study().base, steps=13), seeds=tuple(range(10, 17)))
    study_command(changed, tmp_path)
    assert len(trained) == before + 24 + 14  # nothing of the shorter runs is taken over
    told = (tmp_path / 'results.json').read_text()
    study_command(study(), tmp_path)  # and back: all of it is there
    assert len(trained) == before + 24 + 14 and (tmp_path / 'results.json').read_text() != told


def test_killed_between_training_and_ledger_it_goes_on(tmp_path, trained, monkeypatch):
    add, adds = Ledger.add, []

    def dies(self, row):
        adds.append(row)
        if len(adds) in (3, 30):
            raise KeyboardInterrupt
        add(self, row)

    monkeypatch.setattr(Ledger, 'add', dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study_command(study(), tmp_path)
    found = study_command(study(), tmp_path)
    assert found == study_command(study(), tmp_path)


def test_of_a_plateau_the_middle_is_chosen():
    assert best_rate({1.0: 0.5, 2.0: 1.0, 3.0: 1.0, 4.0: 1.0, 5.0: 0.9}) == 3
    assert best_rate({1.0: 1.0, 2.0: 1.0, 3.0: 0.0}) == 1


def test_a_matched_design_still_fuses():
    """One layer of a bottleneck carries nothing across."""
    fusion = Bottleneck(depth=4)
    assert smallest_depth(fusion, ['a', 'b']) == 2
    assert smallest_depth(Bottleneck(depth=4, fusion_layer=1), ['a', 'b']) == 3
    assert smallest_depth(Mid(depth=4, fusion_layer=2), ['a', 'b']) == 3
    assert smallest_depth(Late(depth=4), ['a', 'b']) == 1


def test_packing():
    right = np.random.default_rng(0).random(37) < 0.5
    np.testing.assert_array_equal(unpacked(packed(right), 37), right)
