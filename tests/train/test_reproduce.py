"""`mmjax reproduce`: the same run, and runs whose directories were changed by hand."""

import json
import shutil

import pytest

from mmjax.cli import main
from mmjax.errors import UserError
from mmjax.train.checkpoint import Checkpoints, steps_in
from mmjax.train.reproduce import compared, reproduce
from mmjax.train.run import train
from tests.train import toy


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp('reproduce') / 'run'
    train(toy.experiment(), workdir=str(path), report=False)
    return path


@pytest.fixture(scope='module')
def again(run, tmp_path_factory):
    path = tmp_path_factory.mktemp('again') / 'run'
    found = reproduce(str(run), workdir=str(path), trust=('tests',))
    assert found['identical'], found
    return path


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / 'copy')


def test_the_same_run_is_identical(run, tmp_path, capsys):
    assert main(['reproduce', str(run), '--trust', 'tests', '--until', '9', '--json', str(tmp_path / 'x.json')]) == 0
    found = json.loads((tmp_path / 'x.json').read_text())
    assert found['identical'] and found['step'] == 9 and found['rows'] == 9
    assert 'identical: 9 rows and ' in capsys.readouterr().out


def test_the_arrays_of_each_common_checkpoint_are_compared(run, again):
    steps, leaves = steps_in(run / 'checkpoints'), Checkpoints(run / 'checkpoints', keep=None)
    found = compared(run, again, toy.experiment(), until=12)
    assert found['leaves'] == sum(len(leaves.about(step)['leaves']) for step in steps) > 0
    leaves.close()


def test_a_metric_that_differs_is_named_with_its_first_step(copy, again):
    rows = (copy / 'metrics.jsonl').read_text().splitlines()
    for place in (4, 6):
        row = json.loads(rows[place])
        rows[place] = json.dumps(row | {'loss': row['loss'] + 0.5})
    (copy / 'metrics.jsonl').write_text('\n'.join(rows) + '\n')
    found = compared(copy, again, toy.experiment(), until=12)
    assert not found['identical'] and 'first_leaf/path' not in found
    assert (found['first/step'], found['first/metric']) == (json.loads(rows[4])['step'], 'loss')
    assert found['first/difference'] == pytest.approx(-0.5)


def test_an_array_that_differs_is_named_with_by_how_much(run, again, tmp_path):
    """Of another seed at the last step, with the rows of the first."""
    other = tmp_path / 'other'
    train(toy.experiment(seed=1), workdir=str(other), report=False)
    (other / 'metrics.jsonl').write_bytes((run / 'metrics.jsonl').read_bytes())
    found = compared(other, again, toy.experiment(), until=12)
    assert not found['identical'] and 'first/step' not in found
    assert found['first_leaf/step'] == steps_in(run / 'checkpoints')[0] and found['first_leaf/difference'] > 0
    assert found['config/seed'] == [1, 0]


def test_what_differs_besides_is_named(copy, again, capsys):
    manifest = json.loads((copy / 'manifest.json').read_text())
    manifest |= {'commit': 'a' * 40, 'packages': manifest['packages'] | {'jax': '0.1'}, 'data': {'train': 'x'}}
    manifest['device'] = manifest['device'] | {'kind': 'tpu'}
    (copy / 'manifest.json').write_text(json.dumps(manifest))
    found = compared(copy, again, toy.experiment(), until=12)
    assert found['identical'] and found['code/commit'][0] == 'a' * 40
    assert found['environment/packages/jax'][0] == '0.1' and found['environment/device/kind'][0] == 'tpu'
    assert found['data/train'][0] == 'x'


def test_another_result_is_exit_code_1(copy, capsys):
    text = (copy / 'metrics.jsonl').read_text().replace('"loss": ', '"loss": 1', 1)
    (copy / 'metrics.jsonl').write_text(text)
    assert main(['reproduce', str(copy), '--trust', 'tests', '--until', '2']) == 1
    said = capsys.readouterr().out
    assert 'not identical' in said and 'first at step 1: loss 1' in said


@pytest.mark.parametrize('until', [0, 13])
def test_a_step_that_it_has_not_is_told(run, until):
    with pytest.raises(UserError, match=r'has 12 steps; name one of them'):
        reproduce(str(run), until=until, trust=('tests',))


def test_a_run_without_a_step_is_told(copy):
    shutil.rmtree(copy / 'checkpoints')
    (copy / 'metrics.jsonl').unlink()
    with pytest.raises(UserError, match='has no step to compare with yet'):
        reproduce(str(copy), trust=('tests',))


def test_a_run_that_stopped_goes_on_to_be_the_same(run, tmp_path):
    assert train(toy.experiment(), workdir=str(tmp_path / 'run'), until=5) == {}
    assert steps_in(tmp_path / 'run' / 'checkpoints')[-1] == 5 and not (tmp_path / 'run' / 'results.json').exists()
    assert train(toy.experiment(), workdir=str(tmp_path / 'run'), report=False)
    assert (tmp_path / 'run' / 'metrics.jsonl').read_bytes() == (run / 'metrics.jsonl').read_bytes()
