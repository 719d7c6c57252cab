"""Costs of steps: what is measured, how often, and that it stays measured."""

import json

import pytest

from mmjax.study import step_costs
from mmjax.study.ledger import Ledger
from mmjax.study.matching import Fit
from mmjax.study.plan import Plan
from mmjax.study.step_costs import known_costs, measure_costs
from tests.study.test_study import study


@pytest.fixture
def timed(monkeypatch):
    """Steps that take as long as their fusion's name; returns the designs that were compiled."""
    made = []

    class Named:
        def __init__(self, experiment):
            self.name = type(experiment.model.fusion).__name__
            self.memory = 1000
            made.append(self.name)

        def __call__(self, steps):
            return float(len(self.name))

    monkeypatch.setattr(step_costs, 'Stepper', Named)
    return made


def test_each_program_is_measured_once_and_kept(tmp_path, timed):
    both = study(regimes=('parameters', 'flops'), seeds=tuple(range(10, 17)))
    fit = Fit(depth=2, ratio=4.0, parameters=1000, flops=10_000, gap=0.0)
    plan = Plan(both, {(regime, arm): fit for regime in both.regimes for arm in ('early', 'late')})
    assert known_costs(plan, tmp_path) == {}
    measure_costs(plan, tmp_path, Ledger(tmp_path, both))
    assert timed == ['Early', 'Early', 'Late']  # the reference, to measure with; and each arm, whatever the regime
    found = known_costs(plan, tmp_path)
    assert found['flops', 'late'] == found['parameters', 'late'] == {'time': 0.8, 'memory': 1000}
    assert found['flops', 'early']['time'] == 1

    measure_costs(plan, tmp_path, Ledger(tmp_path, both))
    assert len(timed) == 3
    path = tmp_path / 'costs.json'
    stored = json.loads(path.read_text())
    stored['arms'] = {key: cost for key, cost in stored['arms'].items() if 'late' not in key}
    path.write_text(json.dumps(stored))
    measure_costs(plan, tmp_path, Ledger(tmp_path, both))
    assert timed[3:] == ['Early', 'Late'] and known_costs(plan, tmp_path) == found
