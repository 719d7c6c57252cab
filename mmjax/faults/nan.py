"""Numbers that go wrong: skipped, gone back over, or told, and never saved.

A small run on eight virtual devices (four copies of two parts; for arrays without a copy eight parts) has NaN or an
infinity in one array of the gradient, in one part of it, or in the loss: at its first, a middle and its last step, and
in a row. Survived: its last checkpoint is, bit for bit, that of a run without a guard in which those batches were left
out, and the rows count them; in a row too long, that it goes back, and after going back as often as it may ends with an
error, all that it saved being finite. `bits`: a clean run is the same with and without a guard.

Bits are flipped in memory, where it lies, between steps: of a copy of a parameter, looked for before each checkpoint;
of any array, with `verify='steps'`. Survived: array and device are named, and nothing newer than the flip was saved.

Spikes of 100 times in three runs; further ones, false alarms and a slow drift (1000 times over the series) are asked of
the detector alone, over the norms of `CLEAN` steps of a real run on examples that do not repeat. What counts as a spike
was chosen by the first 3000 steps of a run with another seed.
"""

import dataclasses
import math
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data import train_batches
from mmjax.errors import UserError
from mmjax.experiment import Checkpoint, Experiment
from mmjax.faults import bar
from mmjax.faults.bar import Trial
from mmjax.faults.poison import Broken, Poison, flipping, marks
from mmjax.faults.same import state_of
from mmjax.guard import Guard
from mmjax.sharding import MeshShape, place_batch
from mmjax.train.check_parts import Drawn, Size
from mmjax.train.check_parts import experiment as model_of
from mmjax.train.checkpoint import reading, steps_in
from mmjax.train.digests import Leaves, digests, kinds
from mmjax.train.mesh_equality import prepared
from mmjax.train.metrics import read_rows
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import abstract_state, mesh_of
from mmjax.train.watch import LAG, Usual

STEPS, EVERY, IN_A_ROW = 9, 2, 3
CLEAN = 10_000
SPIKE = 16.0
SIZE = Size(width=32, depth=1, heads=2, side=8, length=8, batch=16)


def subject(**changes: Any) -> Experiment:
    made = model_of(SIZE)
    settings = {
        'name': 'subject',
        'steps': STEPS,
        'mesh': MeshShape(data=4, fsdp=2),
        'optim': dataclasses.replace(made.optim, ema=0.9),
        'checkpoint': Checkpoint(every=EVERY, keep=2),
        'guard': Guard(in_a_row=IN_A_ROW, rollbacks=1),
    }
    return dataclasses.replace(made, **(settings | changes))


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: bits that are flipped, of each kind."""
    rng, done = np.random.default_rng(seed), []
    with tempfile.TemporaryDirectory() as directory:
        jax.config.update('jax_compilation_cache_dir', str(Path(directory, 'compiled')))
        for value in ('nan', 'inf'):
            for where in ('leaf', 'shard', 'loss'):
                for step in (1, STEPS // 2, STEPS):
                    done.append(one(f'{value}_{where}', poisoned([step], value, where), [step], directory))
        done.append(one('in_a_row', poisoned([4, 5], 'nan', 'leaf'), [4, 5], directory))
        for steps in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
            before = (steps[0] - 1) // EVERY * EVERY
            out = range(before + 1, steps[-1] + 1)
            done.append(one('rollback', poisoned(steps, 'nan', 'leaf'), out, directory))
        done.append(Trial('give_up', gives_up(directory)))
        done += [Trial('bits', wrong) for wrong in clean()]
        for number in range(trials):
            done.append(Trial('flip_copy', copy_flipped(rng, directory)))
            done.append(Trial('flip_single', single_flipped(rng, directory)))
            bar.progress(number, trials)
        for step in (55, 58, 60):
            of = subject(steps=60, guard=Guard(spike=SPIKE), balance=Poison((step,), '100', 'all'))
            done.append(one('spike', of, [step], directory))
    return done + series(norms(CLEAN), rng)


def poisoned(steps: Sequence[int], value: str, where: str) -> Experiment:
    of = subject()
    if where == 'loss':
        broken = Broken(marks=marks(of, steps), value=value)
        return dataclasses.replace(of, objectives={**of.objectives, 'broken': broken})
    return dataclasses.replace(of, balance=Poison(tuple(steps), value, where))


def one(fault: str, of: Experiment, out: Collection[int], directory: str) -> Trial:
    """A run in which the steps `out` have to leave nothing behind."""
    workdir = Path(tempfile.mkdtemp(dir=directory))
    try:
        train(of, workdir=str(workdir), report=False)
    except UserError as error:
        return Trial(fault, f'{sorted(out)}: stopped: {error}')
    found, right = state_of(workdir), left_out(of, out)
    other = [path for path in right if found[path] != right[path]]
    counted = read_rows(workdir / 'metrics.jsonl')[-1]['skipped'] if max(out) < of.steps else len(out)
    wrong = f'{len(other)} of {len(right)} arrays are others' if other else ''
    return Trial(fault, f'{sorted(out)}: {wrong}' if wrong else '' if counted == len(out) else f'counted {counted}')


def left_out(of: Experiment, out: Collection[int], *, guard: Guard = Guard(skip=False)) -> Leaves:  # noqa: B008
    """The state after all steps but those."""
    mesh, _, state, step = prepared(dataclasses.replace(of, guard=guard))
    batches = train_batches(of.data, batch_size=of.batch_size, seed=of.seed)
    with jax.set_mesh(mesh):
        for number in range(1, of.steps + 1):
            batch = place_batch(next(batches), mesh)
            state = state.replace(step=state.step + 1) if number in out else step(state, batch)[0]
    batches.close()
    return digests(state)


def gives_up(directory: str) -> str:
    workdir, of = Path(tempfile.mkdtemp(dir=directory)), poisoned(range(4, STEPS + 1), 'nan', 'leaf')
    try:
        train(of, workdir=str(workdir), report=False)
        return 'did not end'
    except UserError as error:
        if 'after going back 1 times' not in str(error):
            return f'said {error}'
    batch = shapes_of_batch(of)
    with reading(workdir) as checkpoints:
        newest = checkpoints.steps[-1]
        state = checkpoints.restore(newest, abstract_state(of, batch, mesh_of(of, batch)))
    finite = all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(state))
    return '' if finite and newest == 6 else f'step {newest} is saved, {"" if finite else "not "}finite'


def clean() -> list[str]:
    """Where a guard changes a clean run: clipped or not, with and without moving average, the batch in parts."""
    wrong = []
    for clip, ema, accumulate in ((0.0, 0.0, 1), (0.0, 0.9, 1), (1.0, 0.0, 1), (1.0, 0.9, 1), (0.0, 0.9, 2)):
        for mesh in (MeshShape(data=4, fsdp=2), MeshShape(data=8)):
            optim = dataclasses.replace(subject().optim, clip=clip, ema=ema, accumulate=accumulate)
            of = subject(optim=optim, mesh=mesh)
            without, with_one = left_out(of, ()), left_out(of, (), guard=Guard())
            other = sum(with_one[path] != without[path] for path in without)
            wrong.append(f'clip {clip}, ema {ema}, parts {accumulate}, {mesh}: {other} arrays' if other else '')
    return wrong


def copy_flipped(rng: np.random.Generator, directory: str) -> str:
    return flipped(subject(), 'params', rng, directory)


def single_flipped(rng: np.random.Generator, directory: str) -> str:
    """Of parameters, moments and moving average in turn, cut over all devices where they can be."""
    of = subject(mesh=MeshShape(data=1, fsdp=8), guard=Guard(verify='steps'))
    return flipped(of, ('opt_state', 'params', 'ema')[int(rng.integers(3))], rng, directory)


def flipped(of: Experiment, part: str, rng: np.random.Generator, directory: str) -> str:
    """What is wrong where a bit of an array in a part of the state flips."""
    workdir, batch = Path(tempfile.mkdtemp(dir=directory)), shapes_of_batch(of)
    shapes = abstract_state(of, batch, mesh_of(of, batch))
    paths = [path for path in sorted(kinds(shapes)) if path.startswith(f'{part}/')]
    path, device, before = paths[rng.integers(len(paths))], int(rng.integers(8)), int(rng.integers(2, STEPS + 1))
    try:
        with flipping(path, before=before, device=device, bit=int(rng.integers(1 << 20))):
            train(of, workdir=str(workdir), report=False)
        return f'{path} on device {device} before step {before}: nobody noticed'
    except UserError as error:
        saved = max(steps_in(workdir / 'checkpoints'), default=0)
        named = path in str(error).replace(',', ' ').split()
        if named and f'device {device}' in str(error) and saved < before:
            return ''
        return f'{path} on device {device} before step {before}, {saved} is saved: {error}'


def norms(steps: int) -> np.ndarray:
    """Of the gradients of a run on one device, on examples that do not repeat."""
    of = subject(steps=steps, mesh=MeshShape(data=1), seed=1)
    data: Any = of.data
    of = dataclasses.replace(
        of, data=dataclasses.replace(data, source=Drawn(rows=steps * SIZE.batch, side=8, length=8))
    )
    mesh, _, state, step = prepared(of, jax.devices()[:1])
    batches, found = train_batches(of.data, batch_size=SIZE.batch, seed=of.seed), []
    with jax.set_mesh(mesh):
        for _ in range(steps):
            state, metrics = step(state, place_batch(next(batches), mesh))
            found.append(metrics['grad_norm'])
    batches.close()
    return np.asarray(jax.device_get(found), np.float64)


def alarms(found: np.ndarray) -> list[int]:
    """The places of a series of norms at which the detector calls it a spike."""
    usual, places = Usual(SPIKE), []
    for i, norm in enumerate(found):
        if i > LAG:
            usual.take(float(found[i - 1 - LAG]))
        if norm > usual.limit:
            places.append(i)
    return places


def series(found: np.ndarray, rng: np.random.Generator) -> list[Trial]:
    false = alarms(found)
    drift = alarms(found * np.exp(np.linspace(0, math.log(1000), len(found))))
    done = [Trial('clean_series', f'{len(false)} false alarms in {len(found)} steps' if false else '')]
    done.append(Trial('drift_series', f'{len(drift)} false alarms in {len(found)} steps' if drift else ''))
    for place in rng.integers(Usual.WARM + LAG + 1, len(found), size=20):
        spiked = found.copy()
        spiked[place] *= 100
        done.append(Trial('spike_series', '' if place in alarms(spiked) else f'step {place + 1} is not noticed'))
    return done


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('nan', (__doc__ or '').partition('\n')[0], run, trials=10, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
