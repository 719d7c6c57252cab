"""Drift: every field has a rule, and a run that goes on is held to it."""

import dataclasses
import json
import shutil

import pytest

import mmjax.train.manifest
from mmjax.data import Data
from mmjax.errors import UserError
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.optim import AdamW, WarmupConstant, WarmupCosine
from mmjax.train import drift
from mmjax.train.directory import claimed
from mmjax.train.drift import AROUND, IGNORED, MAY, MUST, RULES, Change, rule_of
from mmjax.train.manifest import history, manifest, record_manifest
from mmjax.train.run import train
from tests.train import toy

PLACES = {'log': Log, 'checkpoint': Checkpoint, 'data.**': Data, 'evals.*': Evaluation, 'evals.*.data': Data}
EXPERIMENT = toy.experiment(steps=2, evals={}, checkpoint=Checkpoint(every=1, keep=2))
NOW = {
    'config_hash': '0',
    'commit': 'a',
    'dirty': False,
    'code': {'mmjax': '1'},
    'packages': {'jax': '1', 'numpy': '2'},
}
NOW |= {'data': {'train': 'x'}, 'labels': {'answer': ['no', 'yes']}, 'parameters': 3, 'device': {'count': 1}}


def names(cls):
    return {field.name for field in dataclasses.fields(cls)}


def test_every_field_of_an_experiment_has_a_rule():
    assert {pattern for pattern in RULES if '.' not in pattern} == names(Experiment)
    assert set(RULES.values()) == {MUST, MAY, IGNORED}


def test_every_finer_rule_names_a_field():
    for pattern in RULES:
        place, dot, name = pattern.rpartition('.')
        assert not dot or name in names(PLACES[place]), pattern


def test_every_entry_of_a_manifest_has_a_rule():
    assert {*manifest(EXPERIMENT, parameters=1, config_file=None), 'init_from'} == set(AROUND)


@pytest.mark.parametrize(
    ('path', 'rule'),
    [
        ('', MUST),
        ('model.fusion.depth', MUST),
        ('data.workers', IGNORED),
        ('data.parts.de.workers', IGNORED),
        ('data.transforms.0.size', MUST),
        ('evals.test', MUST),
        ('evals.test.references.chance', IGNORED),
        ('evals.test.data.source.rows', MUST),
        ('log', MAY),
        ('log.every', MAY),
        ('log.wandb', IGNORED),
        ('logs', MUST),
    ],
)
def test_the_longest_rule_counts(path, rule):
    assert rule_of(path) == rule


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp('drift') / 'run'
    train(EXPERIMENT, workdir=str(run), report=False)
    return run


@pytest.fixture
def run(whole, tmp_path):
    """A run that was interrupted after its last save."""
    copy = shutil.copytree(whole, tmp_path / 'run')
    (copy / 'results.json').unlink()
    return copy


def again(run, allow=(), **changes):
    return train(dataclasses.replace(EXPERIMENT, **changes), workdir=str(run), report=False, allow_drift=allow)


def lineage(run):
    return json.loads((run / 'manifest.json').read_text()).get('resumed', [])


VOCABULARY = Data(toy.Toy(), (toy.Image('image', size=8), dataclasses.replace(toy.WORDS, vocabulary=('same', 'else'))))
OTHERS = {
    'seed': ({'seed': 7}, r'seed was 0 and is 7'),
    'precision': ({'precision': 'bfloat16'}, r'precision was float32 and is bfloat16'),
    'optim': ({'optim': dataclasses.replace(EXPERIMENT.optim, decay=0.5)}, r'optim\.decay was 0\.01 and is 0\.5'),
    'data': ({'data': VOCABULARY}, r'vocabulary\.1 was other and is else'),
    'model': ({'model': toy.model(dropout=0.3)}, r'dropout was 0\.1 and is 0\.3'),
}


@pytest.mark.parametrize('field', OTHERS)
def test_what_must_match_stops_with_both_sides(run, field):
    changes, told = OTHERS[field]
    before = (run / 'config.json').read_bytes()
    with pytest.raises(UserError, match=rf'(?s)belongs to another config: .*{told}.*--allow-drift {field}'):
        again(run, **changes)
    assert (run / 'config.json').read_bytes() == before and not lineage(run)


def test_allowed_drift_goes_on_and_stands_in_the_lineage(run):
    assert again(run, ['seed', 'optim.decay'], seed=7, optim=OTHERS['optim'][0]['optim']) == {}
    [entry] = lineage(run)
    assert entry['config'] == [['optim.decay', 0.01, 0.5], ['seed', 0, 7]]
    assert entry['allowed'] == ['seed', 'optim.decay'] and 'config_hash' in entry
    with pytest.raises(UserError, match='seed was 7 and is 0'):
        again(run)


def test_what_may_change_is_recorded_and_what_is_ignored_is_not(run):
    again(run, patience=7.0)
    assert lineage(run) == [] and json.loads((run / 'config.json').read_text())['patience'] == 7
    (run / 'results.json').unlink()
    again(run, patience=8.0, checkpoint=Checkpoint(every=1, keep=3))
    assert [entry['config'] for entry in lineage(run)] == [[['checkpoint.keep', 2, 3]]]


def test_a_leaf_that_is_no_more_stops_though_its_field_is_allowed(run):
    """The moving average of an optimizer that has none any more."""
    with pytest.raises(UserError, match=r'checkpoint 2 does not fit the experiment: ema/\S+ was float32\S+ and is abs'):
        again(run, ['optim'], optim=dataclasses.replace(EXPERIMENT.optim, ema=0.0))


def test_more_steps_are_no_drift_where_no_rate_depends_on_them(run):
    with claimed(run, dataclasses.replace(EXPERIMENT, steps=3)) as changes:
        assert changes == [Change('steps', 2, 3)]
    cosine = dataclasses.replace(EXPERIMENT, steps=3, optim=AdamW(schedule=WarmupCosine()))
    with pytest.raises(UserError, match='steps was 2 and is 3'), claimed(run, cosine):
        pass
    assert isinstance(EXPERIMENT.optim.schedule, WarmupConstant)


@pytest.mark.parametrize(
    ('field', 'other', 'told'),
    [
        ('code', {'mmjax': '2'}, 'code.mmjax was 1 and is 2'),
        ('packages', {'jax': '9', 'numpy': '2'}, 'packages.jax was 1 and is 9'),
        ('data', {'train': 'y'}, 'data.train was x and is y'),
        ('labels', {'answer': ['no', 'maybe']}, 'labels.answer.1 was yes and is maybe'),
        ('parameters', 4, 'parameters was 3 and is 4'),
    ],
)
def test_what_lies_around_stops_too_until_it_is_allowed(tmp_path, field, other, told):
    record_manifest(tmp_path, NOW)
    with pytest.raises(UserError, match=rf'changed since it began: {told}; .*--allow-drift {field}'):
        record_manifest(tmp_path, NOW | {field: other})
    assert lineage(tmp_path) == []
    record_manifest(tmp_path, NOW | {field: other}, allow=[field])
    assert lineage(tmp_path) == [{field: other, 'allowed': [field]}]
    record_manifest(tmp_path, NOW | {field: other})  # what the run goes on from now
    with pytest.raises(UserError, match='changed since it began'):
        record_manifest(tmp_path, NOW)


def test_other_devices_and_commits_are_recorded(tmp_path):
    record_manifest(tmp_path, NOW)
    record_manifest(tmp_path, NOW | {'commit': 'b', 'device': {'count': 8}})
    assert lineage(tmp_path) == [{'commit': 'b', 'device': {'count': 8}}]
    assert history(json.loads((tmp_path / 'manifest.json').read_text()))[-1]['device'] == {'count': 8}


def test_a_manifest_of_before_code_was_told_is_compared_by_commit(tmp_path):
    old = {name: value for name, value in NOW.items() if name != 'code'}
    record_manifest(tmp_path, old | {'commit': None})
    record_manifest(tmp_path, NOW)
    assert lineage(tmp_path) == [{'code': {'mmjax': '1'}, 'commit': 'a'}]
    (tmp_path / 'manifest.json').unlink()
    record_manifest(tmp_path, old)
    with pytest.raises(UserError, match=r'code\.commit was a and is b'):
        record_manifest(tmp_path, NOW | {'commit': 'b'})


def test_many_differences_are_counted(tmp_path):
    many = {f'p{i}': '1' for i in range(9)}
    record_manifest(tmp_path, NOW | {'packages': many})
    with pytest.raises(UserError, match=r'(?s)p0 was 1 and is 2\n.*4 more differ; .*--allow-drift packages to go on'):
        record_manifest(tmp_path, NOW | {'packages': dict.fromkeys(many, '2')})


def test_the_code_is_that_of_training_and_of_the_classes_of_the_config(tmp_path, monkeypatch):
    for name in ('__init__.py', 'nn.py', 'study/a.py'):
        (tmp_path / 'mmjax' / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / 'mmjax' / name).write_text('x = 1\n')
    monkeypatch.setattr(mmjax, '__file__', str(tmp_path / 'mmjax' / '__init__.py'))
    first = mmjax.train.manifest.code_of(EXPERIMENT)
    assert set(first) == {'mmjax', 'tests.train.toy'}
    (tmp_path / 'mmjax' / 'study' / 'a.py').write_text('x = 2\n')
    assert mmjax.train.manifest.code_of(EXPERIMENT) == first
    (tmp_path / 'mmjax' / 'nn.py').write_text('x = 2\n')
    assert mmjax.train.manifest.code_of(EXPERIMENT)['mmjax'] != first['mmjax']


def test_a_field_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--allow-drift optmi\.decay: no such field; did you mean 'optim'"):
        train(EXPERIMENT, workdir=str(tmp_path / 'x'), allow_drift=['optmi.decay'])
    drift.check_allowed(['batch-size', 'optim.decay', 'code', 'packages.jax'])
