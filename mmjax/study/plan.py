"""What a study still has to do, and which rate each arm has earned: a pure function of the study and its ledger."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mmjax import config
from mmjax.experiment import Evaluation, Experiment
from mmjax.study.matching import Fit, resized
from mmjax.study.study import TOLERANCE, Study
from mmjax.train.lanes import with_peak

Place = tuple[str, str]  # a regime and an arm
PROBED = ('design', 'no_flow')  # roles of arms that are asked what the study's probes ask
Rows = Mapping[str, Mapping[str, Any]]  # of a ledger, by Run.key


@dataclass(frozen=True)
class Run:
    """One training: of an arm in a regime, for tuning (`phase` 'tune') or for the result ('final')."""

    regime: str
    arm: str
    phase: str
    rate: float
    seed: int
    experiment: Experiment
    projected: int = 0  # examples of which the trained model is projected; explained: on which it is explained
    explained: int = 0
    # What the configs of all runs of a study share, read once.
    parts: config.Parts = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def config(self) -> str:
        """The hash of its config: equal ones, as of the reference in two regimes, are trained once."""
        return config.config_hash(self.experiment, parts=self.parts)[:16]

    @cached_property
    def program(self) -> str:
        """The hash of what has to be compiled: all but seed, rate and evaluations."""
        bare = with_peak(dataclasses.replace(self.experiment, seed=0, evals={}), 1.0)
        return config.config_hash(bare, parts=self.parts)[:16]

    @property
    def told(self) -> dict[str, Any]:
        """What its row says of it."""
        names = {'regime': self.regime, 'arm': self.arm, 'phase': self.phase}
        return {'run': self.key, 'config': self.config, **names, 'rate': self.rate, 'seed': self.seed}

    @property
    def work(self) -> str:
        """What is done, whichever regime and arm it is for: training by a config, and what is asked beside it."""
        projected = f'-emap{self.projected}' if self.projected else ''
        explained = f'-explained{self.explained}' if self.explained else ''
        return f'{self.phase}-{self.config}{projected}{explained}'

    @property
    def key(self) -> str:
        return f'{self.regime}-{self.arm}-{self.work}'


class Plan:
    """A study at the sizes of its arms. A row of the ledger counts only if it is of the config that the study now asks
    for: what was run before the study was changed stays in the ledger and is not looked at.
    """

    def __init__(self, study: Study, sizes: Mapping[Place, Fit]):
        self.study, self.sizes = study, sizes
        self._runs: dict[tuple[Place, str, float, int], Run] = {}
        self._experiments: dict[tuple[Place, str], Experiment] = {}
        self._parts: config.Parts = {}

    @cached_property
    def left_out(self) -> dict[Place, float]:
        """The gap of every arm that cannot match in a regime: it takes no part in it."""
        matched = {place: fit.gap for place, fit in self.sizes.items() if self.study.arm(place[1]).matched}
        return {place: gap for place, gap in matched.items() if abs(gap) > TOLERANCE[place[0]]}

    @cached_property
    def places(self) -> list[Place]:
        """The regimes and arms that take part."""
        return [place for place in self.sizes if place not in self.left_out]

    def run(self, place: Place, phase: str, rate: float, seed: int) -> Run:
        """A tuning run reads the split of `selection` alone: the reported one is not looked at before that."""
        at = (place, phase, rate, seed)
        if at not in self._runs:
            study, role = self.study, self.study.arm(place[1]).role
            experiment = with_peak(dataclasses.replace(self._experiment(place, phase), seed=seed), rate)
            projected = explained = 0
            if phase == 'final' and study.probes is not None and role in PROBED:
                projected = study.probes.additive
            if phase == 'final' and study.explanation is not None and role == 'design' and seed == study.seeds[0]:
                explained = study.explanation.examples
            self._runs[at] = Run(*place, phase, rate, seed, experiment, projected, explained, self._parts)
        return self._runs[at]

    def _experiment(self, place: Place, phase: str) -> Experiment:
        """Whatever its seed and rate: all runs hold the same model, data and evaluations."""
        if (place, phase) not in self._experiments:
            fit, role = self.sizes[place], self.study.arm(place[1]).role
            experiment = resized(self.study.experiment(place[1]), fit.depth, fit.ratio)
            evals = self._evals(experiment, role, phase)
            self._experiments[place, phase] = dataclasses.replace(experiment, evals=evals)
        return self._experiments[place, phase]

    def _evals(self, experiment: Experiment, role: str, phase: str) -> dict[str, Evaluation]:
        if phase == 'tune':
            name = self.study.selection.split('/')[0]
            return {name: experiment.evals[name]}
        probes = self.study.probes
        if probes is None or role not in PROBED:
            return experiment.evals
        evaluator = experiment.evals[self.study.primary_split].evaluator
        return experiment.evals | {n: Evaluation(probes.data, evaluator, view=v) for n, v in probes.views.items()}

    def scores(self, place: Place, rows: Rows, *, rate: float) -> float | None:
        """The mean of `selection` over the tuning seeds; None while one is missing."""
        runs = [self.run(place, 'tune', rate, seed) for seed in self.study.tuning_seeds]
        found = [rows[run.key]['metrics'][self.study.selection] for run in runs if run.key in rows]
        return float(np.mean(found)) if len(found) == len(runs) else None

    def tuning(self, place: Place, rows: Rows) -> dict[float, float | None]:
        """By rate, the score so far: the study's rates, extended where the best one is on the edge."""
        tried = {rate: self.scores(place, rows, rate=rate) for rate in self.study.rates}
        for _ in range(self.study.extensions):
            known = {rate: score for rate, score in sorted(tried.items()) if score is not None}
            if len(known) < len(tried):
                break
            rates, best = list(known), best_rate(known)
            if best == rates[0]:
                new = rates[0] * rates[0] / rates[1]
            elif best == rates[-1]:
                new = rates[-1] * rates[-1] / rates[-2]
            else:
                break
            tried[new] = self.scores(place, rows, rate=new)
        return dict(sorted(tried.items()))

    def chosen(self, place: Place, rows: Rows) -> float | None:
        """The rate that tuning chose; None while it goes on."""
        return _settled(self.tuning(place, rows))

    def wanted(self, rows: Rows) -> Iterator[list[Run]]:
        """What is asked for as far as it is known, done or not, place by place: its tuning, and once a rate is chosen
        its fresh seeds.
        """
        for place in self.places:
            scores = self.tuning(place, rows)
            runs = [self.run(place, 'tune', rate, seed) for rate in scores for seed in self.study.tuning_seeds]
            if (chosen := _settled(scores)) is not None:
                runs += [self.run(place, 'final', chosen, seed) for seed in self.study.seeds]
            yield runs

    def missing(self, rows: Rows) -> Iterator[list[Run]]:
        """What can be done now, place by place."""
        for wanted in self.wanted(rows):
            if runs := [run for run in wanted if run.key not in rows]:
                yield runs


def _settled(scores: Mapping[float, float | None]) -> float | None:
    """The best rate, once all have a score."""
    done = {rate: score for rate, score in scores.items() if score is not None}
    return best_rate(done) if len(done) == len(scores) else None


def best_rate(scores: Mapping[float, float]) -> float:
    """The rate with the best score; of several, the one in their middle: a plateau has no better edge."""
    top = max(scores.values())
    tied = [rate for rate, score in sorted(scores.items()) if score == top]
    return tied[(len(tied) - 1) // 2]
