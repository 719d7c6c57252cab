"""`scripts/check`, with a training that takes no time: what it trains, counts, prints, writes and answers."""

import json
from pathlib import Path

import pytest

from mmjax.train import check
from mmjax.train.expected import ROOT
from mmjax.train.files import write_json
from tests.train.test_expected import put

SCORES = {0: 0.93, 1: 0.95, 5: 0.2}


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list[tuple[str, int, int]]:
    """A recipe in `tmp_path`, which is also the working directory; returns the list of trainings (run, seed, steps)."""
    (tmp_path / 'recipe.py').write_text('from configs.easy_vqa import experiment\n')
    done: list[tuple[str, int, int]] = []

    def train(experiment, *, workdir, config_file):
        assert Path(config_file).name == 'recipe.py'
        results = Path(workdir, 'results.json')
        if not results.exists():
            done.append((workdir, experiment.seed, experiment.steps))
            results.parent.mkdir(parents=True)
            results.write_text(json.dumps({'test/accuracy': SCORES[experiment.seed], 'test/loss': 0.1}))
        return json.loads(results.read_text())

    monkeypatch.setattr('mmjax.train.run.train', train)
    monkeypatch.setattr(check, 'code_version', lambda: {'commit': 'abc', 'dirty': False})
    monkeypatch.chdir(tmp_path)
    return done


def answer(root: Path, *argv: str, capsys) -> tuple[int, str]:
    """The exit code and what was printed, for a repository at `root`."""
    code = check.main(argv, root=root)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_trains_each_seed_once_with_the_overrides(tmp_path, trained, capsys):
    put(tmp_path, overrides=['steps=7', 'model.fusion=late'], floor={'chance': 0.5})
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert trained == [('runs/check/good-0', 0, 7), ('runs/check/good-1', 1, 7)]
    assert (
        code == 0 and 'PASS (mean at least 0.9)' in said and '0.9300' in said and '0.9400' in said and '0.5000' in said
    )
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 0 and len(trained) == 2 and said.count('which was there') == 2


@pytest.mark.parametrize(
    ('bounds', 'missed'),
    [
        ({'threshold': 0.945}, 'the mean 0.9400 is below 0.945'),
        ({'threshold': 0.9, 'each': 0.94}, 'seed 0: 0.9300 is below 0.94'),
        ({'threshold': None, 'at_most': 0.94}, 'seed 1: 0.9500 is above 0.94'),
    ],
)
def test_a_missed_bound_is_told_and_exits_with_1(tmp_path, trained, capsys, bounds, missed):
    put(tmp_path, **bounds)
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 1 and 'FAIL' in said and missed in said


def test_seeds_json_and_write(tmp_path, trained, capsys):
    path = put(tmp_path)
    code, _ = answer(tmp_path, '--all', '--seeds', '1', '--write', '--json', 'flat.json', capsys=capsys)
    assert code == 0 and [seed for _, seed, _ in trained] == [1]
    stored = json.loads(path.read_text())
    assert stored['results'] == {'1': 0.95} and 0 <= stored['minutes']['1'] < 1
    # Of a run that was there no time is known: what was stored of it stays.
    code, _ = answer(tmp_path, 'good', '--seeds', '1', '--write', capsys=capsys)
    assert code == 0 and json.loads(path.read_text()) == stored
    assert json.loads(Path('flat.json').read_text()) == {'good/1': 0.95, 'good/mean': 0.95, 'good/passed': True}


def test_all_leaves_out_what_needs_more_than_this_machine(tmp_path, trained, capsys):
    path = put(tmp_path)
    path.with_name('huge.json').write_text(path.read_text().replace('{', '{"needs": "a pod", ', 1))
    code, said = answer(tmp_path, '--all', '--seeds', '0', capsys=capsys)
    assert code == 0 and [run for run, *_ in trained] == ['runs/check/good-0']
    assert 'huge: left out, it needs a pod; scripts/check huge runs it' in said
    assert answer(tmp_path, 'huge', '--seeds', '1', capsys=capsys)[0] == 0 and trained[1][0] == 'runs/check/huge-1'


def test_a_score_is_written_only_where_the_committed_code_gave_it(tmp_path, trained, capsys, monkeypatch):
    path = put(tmp_path)
    before = path.read_text()
    run = Path('runs/check/good-1')
    run.mkdir(parents=True)
    write_json(run / 'manifest.json', {'commit': '0' * 40, 'dirty': False})
    code, said = answer(tmp_path, 'good', '--write', capsys=capsys)
    assert code == 2 and f'{run} was trained by other code, of commit {"0" * 40}; remove it' in said
    monkeypatch.setattr(check, 'code_version', lambda: {'commit': 'abc', 'dirty': True})
    code, said = answer(tmp_path, 'good', '--write', '--seeds', '0', capsys=capsys)
    assert code == 2 and 'not committed' in said
    assert trained == [] and path.read_text() == before


def test_scores_that_fail_are_written_too(tmp_path, trained, capsys):
    path = put(tmp_path, seeds=[5])
    assert answer(tmp_path, 'good', '--write', capsys=capsys)[0] == 1
    assert json.loads(path.read_text())['results'] == {'5': 0.2}


def test_a_gain_is_a_difference_of_two_scores_of_a_run(tmp_path, trained, capsys):
    put(tmp_path, over='test/loss', threshold=0.83)
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 0 and 'test/accuracy over test/loss' in said and '0.8300' in said and '0.8500' in said
    put(tmp_path, over='test/losses')
    assert answer(tmp_path, 'good', capsys=capsys)[0] == 2
    put(tmp_path, over='text/loss')
    assert 'has no evaluation for text/loss' in answer(tmp_path, 'good', capsys=capsys)[1]


def test_the_run_of_a_recipe_may_be_scored_by_other_evaluations(tmp_path, trained, capsys, monkeypatch):
    path = put(tmp_path, config='recipe.py')
    others = 'configs/easy_vqa.py:experiment'
    (tmp_path / 'configs/easy_vqa.py').write_bytes((ROOT / 'configs/easy_vqa.py').read_bytes())
    path.with_name('again.json').write_text(json.dumps(json.loads(path.read_text()) | {'by': others, 'seeds': [0]}))
    asked = []
    monkeypatch.setattr(
        'mmjax.train.score.evaluate', lambda run, by: asked.append((run, by)) or {'test/accuracy': 0.97}
    )
    code, said = answer(tmp_path, 'again', capsys=capsys)
    assert code == 0 and '0.9700' in said and asked == [('runs/check/recipe-0', f'{tmp_path}/{others}')]
    assert trained == [('runs/check/recipe-0', 0, 9000)]


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ((), 'name a recipe (good), or --all'),
        (('god',), "did you mean 'good'?"),
        (('good', 'god'), "did you mean 'good'?"),
        (('good', '--wirte'), "unknown argument '--wirte'; did you mean '--write'?"),
        (('good', '--seeds', 'x'), "invalid int value: 'x'"),
        (('good', '--seeds', '-1'), 'seed'),
        (('good', '--seeds', '5', '--write'), '--write: seed 5 is not one of the seeds [0, 1]'),
        (('good', '--json', 'no/such/place.json'), "--json no/such/place.json: can't write into the directory no/such"),
    ],
)
def test_bad_arguments_exit_with_2_before_anything_is_trained(tmp_path, trained, capsys, argv, message):
    put(tmp_path)
    code, said = answer(tmp_path, *argv, capsys=capsys)
    assert (code, trained) == (2, []) and message in said and len(said.splitlines()) <= 2


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'metric': 'tset/accuracy'}, "no evaluation for tset/accuracy; did you mean 'test'?"),
        ({'config': 'recipes.py'}, 'no such config file'),
        ({'overrides': ['stpes=3']}, "did you mean 'steps'?"),
    ],
)
def test_an_expectation_that_does_not_fit_its_recipe(tmp_path, trained, capsys, fields, message):
    put(tmp_path, **fields)
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert (code, trained) == (2, []) and message in said


def test_a_metric_that_the_results_lack_is_named(tmp_path, trained, capsys):
    put(tmp_path, metric='test/accurracy')
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 2 and "have no test/accurracy; did you mean 'test/accuracy'?" in said


def test_a_recipe_with_stages_is_trained_whole(tmp_path, monkeypatch, capsys):
    """Its metric is STAGE/EVALUATION/METRIC."""
    (tmp_path / 'recipe.py').write_text(
        'import dataclasses\nfrom configs import easy_vqa\n'
        'def experiment():\n'
        "    return tuple(dataclasses.replace(easy_vqa.experiment(), name=name) for name in ('pretrain', 'probe'))\n"
    )
    trained = []

    def train_stages(stages, *, workdir, config_file):
        trained.extend((workdir, name, stage.seed, stage.steps) for name, stage in stages.items())
        return {'probe/test/accuracy': 0.95}

    monkeypatch.setattr('mmjax.train.stages.train_stages', train_stages)
    monkeypatch.chdir(tmp_path)
    put(tmp_path, seeds=[3], metric='probe/test/accuracy', overrides=['--probe.steps', '9'])
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 0 and '0.9500' in said
    assert trained == [('runs/check/good-3', 'pretrain', 3, 9000), ('runs/check/good-3', 'probe', 3, 9)]
    put(tmp_path, metric='porbe/test/accuracy')
    code, said = answer(tmp_path, 'good', capsys=capsys)
    assert code == 2 and "no evaluation for porbe/test/accuracy; did you mean 'probe/test'?" in said
