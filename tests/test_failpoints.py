"""Named places where something can be made to go wrong."""

import ast
from pathlib import Path

import pytest

from mmjax import failpoints
from mmjax.errors import UserError
from mmjax.failpoints import PLACES, VARIABLE, Injected, failpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def never_been_there(monkeypatch):
    monkeypatch.setattr(failpoints, '_times', type(failpoints._times)())


def test_it_happens_at_the_time_that_is_named(monkeypatch):
    monkeypatch.setenv('MMJAX_PROCESS', '1')
    monkeypatch.setenv(VARIABLE, '0:loop/step=kill;1:loop/step@2=raise;metrics/writing=full')
    failpoint('loop/step')
    with pytest.raises(Injected):
        failpoint('loop/step')
    failpoint('loop/step')
    for _ in range(2):  # no time: each
        with pytest.raises(OSError, match='No space left'):
            failpoint('metrics/writing')


@pytest.mark.parametrize('asked', ['loop/stop=kill', 'loop/step=kll', 'loop/step@two=kill', 'loop/step'])
def test_what_cannot_be_read_is_told(asked, monkeypatch):
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(UserError, match=VARIABLE):
        failpoint('loop/step')


def test_every_place_is_somewhere_and_has_a_name():
    """Read from the source: a place that nobody comes to would make a bar that hits nothing."""
    calls = [
        node.args[0].value
        for file in (ROOT / 'mmjax').rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'failpoint'
    ]
    assert sorted(calls) == sorted(PLACES)
