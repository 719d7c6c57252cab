"""A run, made anew from what its directory says, and held against what it was: every row, every array.

Of the directory `config.json` is what is trained, and manifest.json what it is told to differ in. Rows are compared up
to the last that both have; arrays at each step of which both have a checkpoint, by the digests that were saved with it.
"""

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from mmjax.distributed.group import say
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.paths import flat
from mmjax.storage import AnyPath, absolute, is_url, path_of
from mmjax.train.checkpoint import reading, steps_in
from mmjax.train.compare import causes, first_parting, metrics_of
from mmjax.train.directory import load_experiment
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import TrainState, abstract_state, mesh_of

UNTOLD = ('config/log.', 'environment/resumed')  # of where the other one writes, and how often it was interrupted


def reproduce(
    run: str, *, until: int | None = None, workdir: str | None = None, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Trains a run again, and returns what came of it, flat:

    `identical`; `step`, up to which; `rows` and `leaves` that were compared; where something differs `first/step`,
    `first/metric` and `first/difference` (b - a), or of arrays `first/leaf` with the greatest difference; and, as
    `compare` has it, [then, now] of each `config/…`, `code/…`, `data/…` and `environment/…` that differs.

    until: the step to stop at; None: the last of the run, finished or not. workdir: where it trains; a run that was
    begun there is gone on with; None: a temporary directory, which is removed.

    Raises:
        UserError: where the run has no rows yet, or is shorter than `until`; on what `train` refuses.
    """
    experiment, there = load_experiment(run, trust=trust), path_of(run)
    done = max((*metrics_of(there), *steps_in(there / 'checkpoints')), default=0)
    if not done:
        raise UserError(f'{run}: has no step to compare with yet; train it first')
    if until is not None and not 0 < until <= done:
        raise UserError(f'--until {until}: {run} has {done} steps; name one of them')
    # What is written for people makes no difference to what is computed.
    quiet = dataclasses.replace(experiment, log=dataclasses.replace(experiment.log, tensorboard=False, wandb=False))
    with contextlib.nullcontext(workdir) if workdir else tempfile.TemporaryDirectory() as directory:
        again = path_of(workdir or str(Path(directory, there.name or 'run')))
        _link_stage(experiment, there, again)
        step = until or done
        say(f'{run}: anew in {again}, up to step {step}')
        train(quiet, workdir=str(again), report=False, until=step)
        return compared(there, again, experiment, until=step)


def compared(run: AnyPath, again: AnyPath, experiment: Experiment, *, until: int) -> dict[str, Any]:
    """What `reproduce` returns, of two directories."""
    a, b = ({step: row for step, row in metrics_of(one).items() if step <= until} for one in (run, again))
    common = a.keys() & b.keys()
    parted = next(first_parting({s: a[s] for s in common}, {s: b[s] for s in common}), None)
    steps = sorted({*steps_in(run / 'checkpoints')} & {*steps_in(again / 'checkpoints')})
    leaves = {step: [_digests(one, step) for one in (run, again)] for step in steps if step <= until}
    odd = [(step, path) for step, (x, y) in leaves.items() for path in {**x, **y} if x.get(path) != y.get(path)]
    lacks = sorted(s for s in a.keys() ^ b.keys() if s <= min(max(a, default=0), max(b, default=0)))
    told: dict[str, Any] = {
        'identical': parted is None and not odd and not lacks,
        'step': until,
        'rows': len(common),
        'leaves': sum(len(x) for x, _ in leaves.values()),
    }
    if parted:
        name, step, (x, y) = parted
        told |= {'first/step': step, 'first/metric': name, 'first/values': [x, y]}
        if isinstance(x, int | float) and isinstance(y, int | float):
            told['first/difference'] = y - x
    elif lacks:
        told |= {'first/step': lacks[0], 'first/metric': 'a row that only one of them has'}
    if odd:
        step, path = odd[0]
        told |= {'first_leaf/step': step, 'first_leaf/path': path, 'first_leaf/count': len(odd)}
        told |= _by_how_much(run, again, experiment, step, path, leaves[step])
    return told | {name: pair for name, pair in causes(run, again).items() if not name.startswith(UNTOLD)}


def _by_how_much(
    run: AnyPath, again: AnyPath, experiment: Experiment, step: int, path: str, found: list[dict[str, str]]
) -> dict[str, Any]:
    was, now = (part.get(path, 'absent') for part in found)
    if was.split()[0] != now.split()[0]:
        return {'first_leaf/values': [was, now]}
    batch = shapes_of_batch(experiment)
    like = abstract_state(experiment, batch, mesh_of(experiment, batch))
    x, y = (np.asarray(jax.device_get(_leaf(one, step, path, like))) for one in (run, again))
    return {'first_leaf/difference': float(np.max(np.abs(y.astype(float) - x.astype(float))))}


def _leaf(run: AnyPath, step: int, path: str, like: TrainState) -> Any:
    with reading(run) as checkpoints:
        return flat(serialization.to_state_dict(checkpoints.restore(step, like)))[path]


def _digests(run: AnyPath, step: int) -> dict[str, str]:
    with reading(run) as checkpoints:
        return checkpoints.about(step)['leaves']


def _link_stage(experiment: Experiment, run: AnyPath, again: AnyPath) -> None:
    """A stage that starts from an earlier one finds it beside itself."""
    stage = experiment.init_from.stage
    if not stage or (again.parent / stage).exists():
        return
    if is_url(run) or is_url(again):
        raise UserError(f'{run}: starts from stage {stage}, which is looked for beside it; give a directory beside it')
    again.parent.mkdir(parents=True, exist_ok=True)
    Path(again.parent / stage).symlink_to(absolute(run.parent / stage))


def lines(told: dict[str, Any]) -> Iterator[str]:
    """What `reproduce` found, for people."""
    what = f'{told["rows"]} rows and {told["leaves"]} arrays up to step {told["step"]}'
    if told['identical']:
        yield f'identical: {what}'
    else:
        yield f'not identical: of {what}'
    if 'first/step' in told:
        x, y = told.get('first/values', ('', ''))
        by = f' (by {told["first/difference"]:.3g})' if 'first/difference' in told else ''
        yield f'  first at step {told["first/step"]}: {told["first/metric"]} {x} -> {y}{by}'
    if 'first_leaf/path' in told:
        x, y = told.get('first_leaf/values', ('', ''))
        by = f'by up to {told["first_leaf/difference"]:.3g}' if 'first_leaf/difference' in told else f'{x} -> {y}'
        yield f'  first array, at step {told["first_leaf/step"]}: {told["first_leaf/path"]} {by}'
    named = {n: x for n, x in told.items() if n.partition('/')[0] in ('config', 'code', 'data', 'environment')}
    if named:
        yield 'what differs besides:'
    yield from (f'  {name}: {pair[0]} -> {pair[1]}' for name, pair in itertools.islice(named.items(), 30))
