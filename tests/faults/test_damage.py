"""A short form of `scripts/faults/damage`, whose last full result is committed, and that it can find what is wrong."""

import pytest

from mmjax.faults import bar, damage
from mmjax.faults.bar import Trial
from mmjax.train.checkpoint import Checkpoints
from tests.faults.results import committed, faults

FOUND = committed('damage')


def test_the_full_result_is_of_at_least_200_damages_that_were_survived():
    assert FOUND['survived'] == FOUND['trials'] >= 200
    assert faults(FOUND) == {*damage.HARMS, damage.DIRECTORY}


def test_each_way_of_damage_is_survived():
    done = damage.run(trials=12, seed=1)
    assert len({trial.fault for trial in done}) == 6 and [trial for trial in done if trial.wrong] == []


def test_a_reader_that_does_not_look_is_caught(monkeypatch):
    """Of files that hold no array nobody would notice."""
    monkeypatch.setattr(Checkpoints, 'check', lambda *_: None)
    wrong = [trial.wrong for trial in damage.run(trials=6, seed=1) if trial.wrong]
    assert wrong and all('is not the state of step' in what for what in wrong)


def test_a_result_counts_what_was_survived(capsys):
    trials = [Trial('a', ''), Trial('a', 'x is lost'), Trial('b', '')]
    told = bar.result(trials, seed=3)
    assert (told['trials'], told['survived'], told['a/survived'], told['b/survived'], told['seed']) == (3, 2, 1, 1, 3)
    assert bar.main('x', 'about', lambda **_: trials, trials=3, argv=[]) == 1
    assert 'a: x is lost' in capsys.readouterr().out
    assert bar.main('x', 'about', lambda **_: trials[:1], trials=3, argv=[]) == 0


@pytest.mark.parametrize('wrong', [['--trials', '0'], ['--json', '/no/such/place/x.json']])
def test_a_wrong_command_is_told(wrong, capsys):
    assert bar.main('x', 'about', lambda **_: [], trials=3, argv=wrong) == 2
    assert wrong[0] in capsys.readouterr().err
