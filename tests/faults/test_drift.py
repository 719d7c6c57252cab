"""A short form of `scripts/faults/drift`, whose last full result is committed, and that it can find what is wrong."""

from mmjax.faults import drift
from mmjax.train import directory
from mmjax.train.drift import MAY, MUST
from tests.faults.results import committed, faults

FOUND = committed('drift')


def test_the_full_result_is_of_every_kind_all_as_the_rules_say():
    assert FOUND['survived'] == FOUND['trials'] >= 200
    assert faults(FOUND) == drift.KINDS


def test_fields_leaves_code_and_data_do_as_the_rules_say():
    done = drift.run(trials=40, seed=1)
    assert [trial for trial in done if trial.wrong] == []
    assert {*drift.LEAVES, *drift.STATE, *drift.AROUND} <= {trial.fault for trial in done}


def test_a_training_that_looks_at_nothing_is_caught(monkeypatch):
    monkeypatch.setattr(directory, 'settle', lambda *_, **__: [])
    monkeypatch.setattr(drift, '_leaves', lambda *_: ())
    monkeypatch.setattr(drift, '_trainings', lambda *_: ())
    wrong = {trial.fault for trial in drift.run(trials=1000, seed=1) if trial.wrong}
    assert wrong == {MUST, MAY}
