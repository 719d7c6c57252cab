"""What a study is: arms of one experiment, what is held equal between them, how they are tuned, seeded and compared."""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property

from mmjax import config
from mmjax.errors import UserError, nearest
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Experiment
from mmjax.study.explained import Explanation
from mmjax.study.multiplicity import seeds_needed, smallest_p
from mmjax.study.probes import Probes
from mmjax.train.lanes import with_peak

TOLERANCE = {'parameters': 0.02, 'flops': 0.05}
"""Regimes, and how far an arm may be from the reference in the quantity that the regime holds equal."""

FEWEST_RATES, FEWEST_SEEDS = 5, 2
QUICK_EXAMPLES = 16
ROLES = ('design', 'unimodal', 'no_flow', 'control')


@dataclass(frozen=True)
class Arm:
    """A variant of the base experiment.

    overrides: as on the command line (`model.fusion=bottleneck`, `--model.fusion.num-tokens`, `4`). base: what they
    change, where it is not the study's. role: 'design', whose difference from the reference is one of the declared
    comparisons unless `compared` is False; 'unimodal' and 'no_flow' are the controls that a design must beat to show
    that it uses both modalities; 'control' is any other (see `mmjax.study.controls`). matched: whether it is brought to
    the size of the regime; else it stays as it is, and is reported in each.
    """

    name: str
    overrides: tuple[str, ...] = ()
    compared: bool = True
    base: Experiment | None = None
    role: str = 'design'
    matched: bool = True


@dataclass(frozen=True)
class Study:
    """Arms of `base` at matched size, each tuned alike on validation, then run with fresh seeds.

    reference: the arm at whose size the others are matched, and which they are compared with. regimes: see `TOLERANCE`.
    rates: peak learning rates that each arm is tried with, ascending; an optimum on the edge extends them by their last
    ratio, at most `extensions` times. selection: the metric by which a rate is chosen, mean over `tuning_seeds`; its
    split is the only one that a tuning run reads. primary: the metric that is reported, of a split that is read by the
    runs of `seeds` alone. probes: what else the runs of `seeds` are asked; explanation: how the
    first of them, of every design, is explained. clusters: the field of the data that tells
    which examples share an image; '': none do. delta: the largest difference that does not matter, for claims of
    equivalence. references: known scores to read the arms against, beside those of the primary evaluation. quick:
    overrides of the base that make the study end in minutes, for a look at the machinery, not at
    the designs.
    """

    name: str
    base: Experiment
    arms: tuple[Arm, ...]
    reference: str
    primary: str = 'test/accuracy'
    selection: str = 'validation/accuracy'
    regimes: tuple[str, ...] = ('parameters', 'flops')
    rates: tuple[float, ...] = (3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3)
    extensions: int = 2
    tuning_seeds: tuple[int, ...] = (0, 1)
    seeds: tuple[int, ...] = tuple(range(100, 110))
    probes: Probes | None = None
    explanation: Explanation | None = None
    clusters: str = ''
    delta: float = 0.005
    references: dict[str, float] = field(default_factory=dict)
    quick: tuple[str, ...] = ()

    def arm(self, name: str) -> Arm:
        """Raises UserError where there is no such arm."""
        arms = {arm.name: arm for arm in self.arms}
        if name not in arms:
            raise UserError(f"study {self.name}: no arm '{name}'{nearest(name, arms)} (there are {sorted(arms)})")
        return arms[name]

    @property
    def comparisons(self) -> list[str]:
        """The arms whose difference from the reference is declared."""
        return [a.name for a in self.arms if a.compared and a.role == 'design' and a.name != self.reference]

    @property
    def primary_split(self) -> str:
        """The evaluation that `primary` is a metric of."""
        return self.primary.split('/')[0]

    @property
    def family(self) -> int:
        """How many declared comparisons there are over all regimes: Holm's family."""
        return len(self.comparisons) * len(self.regimes)

    def experiment(self, arm: str, *, rate: float | None = None, seed: int = 0) -> Experiment:
        """The base with an arm's overrides, a peak learning rate and a seed, at the size that the overrides give."""
        changed = dataclasses.replace(self._experiments[self.arm(arm).name], seed=seed)
        return changed if rate is None else with_peak(changed, rate)

    @cached_property
    def _experiments(self) -> dict[str, Experiment]:
        return {
            a.name: config.override(a.base or self.base, list(a.overrides), prog=f'study {self.name}, arm {a.name}')
            for a in self.arms
        }

    def check(self) -> None:
        """Raises UserError on a study that could not show what it declares, before hours are spent on it."""
        where = f'study {self.name}'
        names = [arm.name for arm in self.arms]
        self.arm(self.reference)
        if len(set(names)) < len(names):
            raise UserError(f'{where}: two arms have the same name; there are {sorted(names)}')
        for regime in self.regimes:
            if regime not in TOLERANCE:
                raise UserError(f"{where}: no regime '{regime}'{nearest(regime, TOLERANCE)} ({sorted(TOLERANCE)})")
        if len(self.rates) < FEWEST_RATES or list(self.rates) != sorted(set(self.rates)):
            raise UserError(
                f'{where}: rates {self.rates}: give at least {FEWEST_RATES} different ones, in ascending order'
            )
        if self.rates[0] <= 0 or self.delta <= 0:
            raise UserError(f'{where}: rates {self.rates} and delta {self.delta} must be above 0')
        for what, value in self.references.items():
            if not 0 <= value <= 1:
                raise UserError(f"{where}: references['{what}'] is {value}; accuracies are from 0 to 1")
        if not self.tuning_seeds or not self.regimes:
            raise UserError(
                f'{where}: tuning_seeds {self.tuning_seeds}, regimes {self.regimes}: give at least one of each'
            )
        if len(set(self.seeds)) < len(self.seeds) or len(set(self.tuning_seeds)) < len(self.tuning_seeds):
            raise UserError(f'{where}: a seed stands twice in {self.seeds} or {self.tuning_seeds}')
        if set(self.seeds) & set(self.tuning_seeds):
            raise UserError(f'{where}: seeds {self.seeds} must be fresh, but tuning uses {self.tuning_seeds}')
        needed = max(FEWEST_SEEDS, seeds_needed(max(1, self.family)))
        if len(set(self.seeds)) < needed:
            raise UserError(
                f'{where}: {len(self.seeds)} seeds reach p = {smallest_p(max(1, len(self.seeds))):.3g} at best, but '
                f'{self.family} declared comparisons need {needed} seeds; add seeds, or set compared=False'
            )
        for metric in (self.primary, self.selection):
            split, _, what = metric.partition('/')
            if split not in self.base.evals:
                raise UserError(f'{where}: no evaluation for {metric}{nearest(split, self.base.evals)}')
            if what != 'accuracy':
                raise UserError(f'{where}: {metric}: must be SPLIT/accuracy, of answers that are right or wrong')
        if self.primary.split('/')[0] == self.selection.split('/')[0]:
            raise UserError(f'{where}: {self.selection} selects on the split that {self.primary} reports')
        for arm in self.arms:
            if arm.role not in ROLES:
                raise UserError(f"{where}, arm {arm.name}: no role '{arm.role}'{nearest(arm.role, ROLES)} ({ROLES})")
            experiment = self.experiment(arm.name)  # its overrides fit
            experiment.check()
            if experiment.log.source_gradients:
                raise UserError(f'{where}, arm {arm.name}: log.source_gradients is for runs alone; leave it out')
            if not hasattr(experiment.optim.schedule, 'peak'):
                raise UserError(f'{where}, arm {arm.name}: its schedule has no peak, which is what tuning tries')
            for metric in (self.primary, self.selection):
                split = metric.split('/')[0]
                if split not in experiment.evals or not isinstance(experiment.evals[split].evaluator, Accuracy):
                    raise UserError(f'{where}, arm {arm.name}: has no evaluation {split} by `Accuracy`')
            if self.explanation is not None and arm.role == 'design' and len(experiment.model.decoders) != 1:
                raise UserError(f'{where}, arm {arm.name}: an explanation is of one decoder; give it another role')
        if self.probes is not None:
            self.probes.check(self.base.model.inputs)


def quick(study: Study) -> Study:
    """The same machinery in minutes: the reference and two more arms, the fewest rates and seeds, one regime; a few
    examples are projected and explained.
    """
    probes, explanation = study.probes, study.explanation

    def shorter(base: Experiment) -> Experiment:
        return config.override(base, list(study.quick), prog=f'study {study.name}, quick')

    others = [arm for arm in study.arms if arm.name != study.reference][:2]
    return dataclasses.replace(
        study,
        name=f'{study.name}_quick',
        base=shorter(study.base),
        arms=(
            study.arm(study.reference),
            *(dataclasses.replace(a, compared=False, base=a.base and shorter(a.base)) for a in others),
        ),
        regimes=study.regimes[:1],
        rates=study.rates[:FEWEST_RATES],
        extensions=0,
        tuning_seeds=study.tuning_seeds[:1],
        seeds=study.seeds[:6],
        probes=probes and dataclasses.replace(probes, additive=min(probes.additive, QUICK_EXAMPLES)),
        explanation=explanation
        and dataclasses.replace(explanation, examples=min(explanation.examples, QUICK_EXAMPLES)),
    )
