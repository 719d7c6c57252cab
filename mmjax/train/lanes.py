"""Many short runs of one experiment: they share what was compiled, and may train side by side in one program.

Runs that differ in their seed and peak rate alone are lanes of one program, which is given both as numbers. Several
lanes at once (`jax.vmap`) fill an accelerator that a small model leaves idle; `scripts/bench_lanes` measures whether
they do. Steps are not put into one scanned program: XLA's convolutions on a CPU are far slower inside a loop.
"""

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import train_batches
from mmjax.data.batch import stack
from mmjax.experiment import Experiment
from mmjax.sharding import place_batch
from mmjax.train.evaluate import Scorer
from mmjax.train.init import Start, find_start, lines, load, started
from mmjax.train.state import TrainState, abstract_state, create_state
from mmjax.train.step import Metrics, train_step
from mmjax.types import Batch, Shapes

POINTS = 20  # of a curve, at most


class Lane(NamedTuple):
    """A finished run. params: those that evaluation uses. last_finite: the step that they are of.

    curve: the mean of every metric of training over equal stretches of the run, [stretches].
    """

    experiment: Experiment
    params: Any
    last_finite: int
    curve: dict[str, np.ndarray]

    @property
    def diverged(self) -> bool:
        """Whether a step gave numbers that are not finite; the lane stopped before it."""
        return self.last_finite < self.experiment.steps


class Lanes:
    """The program of an experiment, compiled once for lanes of any seed and peak rate.

    Its schedule has a field `peak`. A lane whose loss or gradient is not finite keeps the parameters that it had, so
    what it is scored by is its last finite state. `batch`: shapes of a batch. Where the experiment starts from another
    run, each lane does; of that its own seed draws what is new.
    """

    def __init__(self, experiment: Experiment, batch: Shapes, mesh: jax.sharding.Mesh):
        self._experiment, self._mesh = experiment, mesh
        self._loaded = _loaded(experiment, batch, mesh)
        self._create = functools.partial(_create, experiment=experiment, batch=batch)
        self._advance = functools.partial(_advance, experiment=experiment)
        self._compiled: dict[int, tuple[jax.stages.Wrapped, jax.stages.Wrapped]] = {}
        self.scorer = Scorer(experiment, mesh)

    def train(self, experiments: Sequence[Experiment]) -> list[Lane]:
        """Trains all of them side by side; they must be this experiment but for seed, peak rate and evaluations."""
        state, finite = self.begin(experiments)
        streams = [
            train_batches(experiment.data, batch_size=experiment.batch_size, seed=experiment.seed)
            for experiment in experiments
        ]
        _, advance = self._programs(len(experiments))
        curve = Curve(self._experiment.steps)
        try:
            seeds, peaks = _numbers(experiments)
            with jax.set_mesh(self._mesh):
                for _ in range(self._experiment.steps):
                    batch = place_batch(stack([next(stream) for stream in streams]), self._mesh, leading=1)
                    state, finite, metrics = advance(state, finite, batch, seeds, peaks)
                    curve.add(metrics)
        finally:
            for stream in streams:
                stream.close()
        return [
            Lane(
                experiment,
                jax.tree.map(lambda x, i=i: x[i], state.evaluated),
                last_finite=int(finite[i]),
                curve={name: values[i] for name, values in curve.read().items()},
            )
            for i, experiment in enumerate(experiments)
        ]

    def begin(self, experiments: Sequence[Experiment]) -> tuple[TrainState, jax.Array]:
        """The states before the first step, with an axis of lanes in front; and zeros, the steps that were finite."""
        for experiment in experiments:
            assert _template(experiment) == _template(self._experiment), 'another experiment'
        create, _ = self._programs(len(experiments))
        with jax.set_mesh(self._mesh):
            state, finite = create(*_numbers(experiments))
            return started(state, self._loaded), finite

    def stepper(self) -> tuple[Callable[[], Any], int]:
        """A function that takes one more step of a single lane, always on the first batch, and returns what waiting for
        waits for it; and the bytes that its program needs, 0 where the compiler does not tell. For measuring.
        """
        experiment = self._experiment
        stream = train_batches(experiment.data, batch_size=experiment.batch_size, seed=experiment.seed)
        batch = place_batch(stack([next(stream)]), self._mesh, leading=1)
        stream.close()
        state, numbers = self.begin([experiment]), _numbers([experiment])
        with jax.set_mesh(self._mesh):
            compiled = self._programs(1)[1].lower(*state, batch, *numbers).compile()

        def step() -> Any:
            nonlocal state
            *state, metrics = compiled(*state, batch, *numbers)
            return metrics

        memory = compiled.memory_analysis()
        if memory is None:
            return step, 0
        sizes = ('argument_size_in_bytes', 'output_size_in_bytes', 'temp_size_in_bytes')
        return step, sum(getattr(memory, size) for size in sizes) - memory.alias_size_in_bytes

    def _programs(self, lanes: int) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
        """Creating and advancing the states of so many lanes; a single one pays for no batching."""
        if lanes not in self._compiled:
            over = jax.vmap if lanes > 1 else _alone
            create = jax.jit(over(self._create))
            self._compiled[lanes] = create, jax.jit(over(self._advance), donate_argnums=(0, 1))
        return self._compiled[lanes]


def peak_of(experiment: Experiment) -> float:
    """The peak rate of the schedule."""
    return experiment.optim.schedule.peak  # pyright: ignore


def with_peak(experiment: Experiment, peak: float) -> Experiment:
    """The experiment with another peak rate."""
    schedule = dataclasses.replace(experiment.optim.schedule, peak=peak)  # pyright: ignore
    return dataclasses.replace(experiment, optim=dataclasses.replace(experiment.optim, schedule=schedule))


def _numbers(experiments: Sequence[Experiment]) -> tuple[np.ndarray, np.ndarray]:
    """Seeds and peaks of lanes."""
    seeds = np.array([experiment.seed for experiment in experiments], np.int32)
    return seeds, np.array([peak_of(experiment) for experiment in experiments], np.float32)


def start_of_lanes(experiment: Experiment, batch: Shapes, mesh: jax.sharding.Mesh) -> tuple[Start, Any] | None:
    """The other run that lanes of an experiment start from, and their abstract parameters; None: they start fresh.

    Raises:
        UserError: as `find_start`.
    """
    experiment.init_from.check()
    params = abstract_state(experiment, batch, mesh).params if experiment.init_from.given else None
    start = find_start(experiment, params, run=None)
    return (start, params) if start else None


def _loaded(experiment: Experiment, batch: Shapes, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """What each lane takes from another run, told as a run tells it."""
    found = start_of_lanes(experiment, batch, mesh)
    if found is None:
        return {}
    start, params = found
    print('\n'.join(lines(start, params)), file=sys.stderr, flush=True)
    return load(start, params, mesh, experiment=experiment)


def _traced(experiment: Experiment, seed: Any, peak: Any) -> Experiment:
    """The experiment with a seed and a peak that are traced: no numbers, which is all that constructors admit."""
    optim = _with(experiment.optim, schedule=_with(experiment.optim.schedule, peak=peak))
    return _with(experiment, seed=seed, optim=optim)


def _with(part: Any, **fields: Any) -> Any:
    changed = copy.copy(part)
    vars(changed).update(fields)
    return changed


def _create(seed: Any, peak: Any, *, experiment: Experiment, batch: Shapes) -> tuple[TrainState, jax.Array]:
    return create_state(_traced(experiment, seed, peak), batch), jnp.zeros((), jnp.int32)


def _advance(
    state: TrainState, finite: jax.Array, batch: Batch, seed: Any, peak: Any, *, experiment: Experiment
) -> tuple[TrainState, jax.Array, Metrics]:
    """One step. finite: the last step up to which everything was."""
    new, metrics = train_step(state, batch, experiment=_traced(experiment, seed, peak))
    good = (finite == state.step) & jnp.isfinite(metrics['loss']) & jnp.isfinite(metrics['grad_norm'])
    kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state).replace(step=new.step)
    return kept, finite + good, metrics


class Curve:
    """Metrics of every step, averaged over equal stretches of a run; waits for the device once a stretch."""

    def __init__(self, steps: int):
        self._stretch = -(-steps // POINTS)
        self._steps: list[dict[str, jax.Array]] = []
        self._means: list[dict[str, np.ndarray]] = []

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._steps.append(metrics)
        if len(self._steps) == self._stretch:
            self._close()

    def read(self) -> dict[str, np.ndarray]:
        """The means so far, [lanes, stretches]."""
        self._close()
        return {name: np.stack([mean[name] for mean in self._means], axis=-1) for name in self._means[0]}

    def _close(self) -> None:
        if self._steps:
            names = self._steps[0]
            self._means.append({n: np.mean([np.asarray(step[n]) for step in self._steps], axis=0) for n in names})
            self._steps = []


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap` of one lane: the axis is taken off and put back."""

    def one(*arguments: Any) -> Any:
        return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], arguments)))

    return one


def _template(experiment: Experiment) -> str:
    return repr(with_peak(dataclasses.replace(experiment, seed=0, evals={}), 1.0))
