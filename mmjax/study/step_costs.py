"""What a training step of each arm takes, time and memory, measured beside a step of the reference on this machine.

Parameters and FLOPs, which a study holds equal, are not all that a design costs: a step of many small products takes
longer than one of few large ones. DIRECTORY/costs.json keeps what was measured, by arm and compiled program.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmjax.experiment import Experiment
from mmjax.study.ledger import Ledger
from mmjax.study.plan import Place, Plan, Run
from mmjax.study.runs import POLL_SECONDS
from mmjax.train.files import read_json, write_json
from mmjax.train.lanes import Lanes
from mmjax.train.prepare import shapes_of_batch

FILE = 'costs.json'
ROUNDS, SECONDS = 9, 0.15  # of alternation, and of each arm's turn in it


def known_costs(plan: Plan, directory: Path) -> dict[Place, dict[str, float]]:
    """By regime and arm, as far as it was measured: `time`, of a step in steps of the reference; `memory`, the bytes
    that the compiler asks for, state and batch included. The reference's own time tells the noise.
    """
    path = directory / FILE
    stored = read_json(path)['arms'] if path.exists() else {}
    return {place: stored[key] for place in plan.places if (key := _key(plan, place)) in stored}


def measure_costs(plan: Plan, directory: Path, ledger: Ledger) -> None:
    """Measures what is not known yet; of several processes one does, and the others wait for it, idle."""
    while True:
        with ledger.claim('costs') as mine:
            if mine:
                _measure(plan, directory)
                return
        time.sleep(POLL_SECONDS)


def _measure(plan: Plan, directory: Path) -> None:
    costs = known_costs(plan, directory)
    missing = [place for place in plan.places if place not in costs]
    if not missing:
        return
    programs = {_run(plan, place).program: cost for place, cost in costs.items()}
    base = Stepper(plan.study.experiment(plan.study.reference))
    turn = max(1, round(SECONDS / min(base(1) for _ in range(5))))
    for place in missing:
        run = _run(plan, place)
        if run.program not in programs:
            print(f'timing a step of {place[1]} at equal {place[0]}', file=sys.stderr)
            own = Stepper(run.experiment)
            # The median of turns, each followed by one of the reference.
            ratio = statistics.median(own(turn) / base(turn) for _ in range(ROUNDS))
            programs[run.program] = {'time': round(ratio, 2), 'memory': own.memory}
        costs[place] = programs[run.program]
        arms = {_key(plan, place): cost for place, cost in costs.items()}
        write_json(directory / FILE, {'device': jax.devices()[0].device_kind, 'arms': arms})


def _key(plan: Plan, place: Place) -> str:
    return f'{place[0]}-{place[1]}-{_run(plan, place).program}'


def _run(plan: Plan, place: Place) -> Run:
    return plan.run(place, 'tune', plan.study.rates[0], 0)


class Stepper:
    """A compiled step, and a state and a batch to go on with: stepper(n) takes n steps and tells the seconds of one."""

    def __init__(self, experiment: Experiment):
        lanes = Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build())
        self._step: Callable[[], Any]
        self._step, self.memory = lanes.stepper()
        self(2)

    def __call__(self, steps: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready([self._step() for _ in range(steps)][-1])
        return (time.perf_counter() - started) / steps
