"""A run that is told to end, and one whose disk is full: what it leaves, and that it ends as the run that was not."""

import json

import pytest

from mmjax import failpoints
from mmjax.cli import main
from mmjax.errors import Preempted, UserError
from mmjax.failpoints import VARIABLE
from mmjax.study import ledger as ledger_module
from mmjax.study.ledger import Ledger
from mmjax.train import checkpoint
from mmjax.train.checkpoint import steps_in
from mmjax.train.metrics import JsonLines, read_rows
from mmjax.train.run import train
from tests.train import toy


@pytest.fixture(autouse=True)
def nowhere_yet(monkeypatch):
    monkeypatch.setattr(failpoints, '_times', type(failpoints._times)())


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp('trouble') / 'whole'
    train(toy.experiment(), workdir=str(run), report=False)
    return run


def texts(run):
    return [(run / name).read_bytes() for name in ('metrics.jsonl', 'results.json')]


def newest(run):
    found = checkpoint.Checkpoints(run / 'checkpoints', keep=None)
    try:
        return found.about(found.steps[-1])['leaves']
    finally:
        found.close()


@pytest.mark.parametrize('place', ['loop/batch@4', 'loop/step@1', 'checkpoint/before@1'])
def test_told_to_end_it_saves_the_last_step_and_goes_on_from_there(place, whole, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f'{place}=term')
    with pytest.raises(Preempted):
        train(toy.experiment(), workdir=str(tmp_path), report=False)
    rows = read_rows(tmp_path / 'metrics.jsonl')
    assert steps_in(tmp_path / 'checkpoints')[-1] == rows[-1]['step'] < 12
    monkeypatch.delenv(VARIABLE)
    train(toy.experiment(), workdir=str(tmp_path), report=False)
    assert texts(tmp_path) == texts(whole) and newest(tmp_path) == newest(whole)


def test_without_room_it_trains_on_and_saves_when_there_is_some(whole, tmp_path, monkeypatch, capfd):
    rooms = iter([0.0] + [1e12] * 9)
    monkeypatch.setattr(checkpoint, 'room', lambda _: next(rooms))
    train(toy.experiment(), workdir=str(tmp_path), report=False)
    assert 'checkpoint 4 is not saved' in capfd.readouterr().err
    assert texts(tmp_path) == texts(whole) and newest(tmp_path) == newest(whole)


def test_without_room_for_the_last_step_nothing_is_scored(tmp_path, monkeypatch, capfd):
    rooms = iter([1e12, 1e12, 0.0])
    monkeypatch.setattr(checkpoint, 'room', lambda _: next(rooms))
    with pytest.raises(UserError, match='the last step, 12, could not be saved'):
        train(toy.experiment(), workdir=str(tmp_path), report=False)
    assert steps_in(tmp_path / 'checkpoints')[-1] == 8 and not (tmp_path / 'results.json').exists()


def test_what_cannot_be_written_at_all_is_no_traceback(whole, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(VARIABLE, 'results/writing=full')
    command = ['train', toy.__file__, '--workdir', str(tmp_path / 'run')]
    assert main(command) == 2
    told = capfd.readouterr().err
    assert 'No space left on device; make room' in told and 'Traceback' not in told
    monkeypatch.delenv(VARIABLE)
    assert main(command) == 0 and texts(tmp_path / 'run') == texts(whole)


def test_rows_wait_for_room(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(VARIABLE, 'metrics/writing@2=full;metrics/writing@3=full;metrics/writing@4=full')
    rows = JsonLines(tmp_path / 'x.jsonl', step=0)
    for step in (1, 2, 3):
        rows.write({'step': step})
    assert read_rows(tmp_path / 'x.jsonl') == [{'step': 1}] and not rows.sync()
    assert capfd.readouterr().err.count('its rows wait') == 1
    rows.write({'step': 4})
    assert rows.sync() and [row['step'] for row in read_rows(tmp_path / 'x.jsonl')] == [1, 2, 3, 4]
    rows.close()


def test_a_finished_run_of_a_study_waits_for_room(tmp_path, monkeypatch, capfd):
    class Small:
        name, primary = 'small', 'test/accuracy'

    monkeypatch.setattr(ledger_module, 'PAUSE', 0.01)
    monkeypatch.setenv(VARIABLE, 'ledger/writing@1=full;ledger/writing@2=full')
    ledger = Ledger.__new__(Ledger)
    ledger._path, ledger._claims = tmp_path / 'ledger.jsonl', tmp_path / 'claims'
    ledger._path.write_text(json.dumps({'study': Small.name}) + '\n{"run": "cut o')
    ledger.add({'run': 'a'})
    assert ledger.rows() == {'a': {'run': 'a'}} and capfd.readouterr().err.count('trying again') == 2
    monkeypatch.setattr(ledger_module, 'PATIENCE', 0.0)
    monkeypatch.setenv(VARIABLE, 'ledger/writing=full')
    with pytest.raises(UserError, match='make room'):
        ledger.add({'run': 'b'})
    assert ledger.rows() == {'a': {'run': 'a'}}
