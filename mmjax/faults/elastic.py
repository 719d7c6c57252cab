"""Another mesh, another number of processes: the same state and batches, and the same bits where that is asked for.

`meshes`: a state that was saved on one mesh of eight devices is restored on each of `all_shapes`, of 1, 2, 4 and 8.
Survived: the same arrays, and losses of the next `AFTER` steps within `SAME` of those on the mesh that it was saved on.

`batches`: a mixture of three sources that is stopped at `STOPS` (mid-epoch, again in that epoch, at its end), each time
with another number of processes, without workers and with two each. Survived: the batches of one process that is never
stopped, so that no example is lost or had twice.

`bits`: a deterministic run on other devices and processes, and one that moves between them. Survived: the state, rows
and results of the run on eight devices, bit for bit.
"""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mmjax.data import Data, DropModality, Feed, train_batches
from mmjax.data.loader import HostBatch
from mmjax.data.mixture import Mixture
from mmjax.data.synthetic import Ids, Pixels, Synthetic
from mmjax.errors import Preempted
from mmjax.experiment import Experiment
from mmjax.faults import bar
from mmjax.faults.bar import Trial, victim
from mmjax.faults.same import difference
from mmjax.faults.starts import NEVER, cached
from mmjax.sharding import MeshShape, place_batch, rows_here
from mmjax.sharding.candidates import written
from mmjax.train.check_parts import SMALL
from mmjax.train.check_parts import experiment as model_of
from mmjax.train.checkpoint import Checkpoints, reading
from mmjax.train.digests import Leaves, digests
from mmjax.train.mesh_equality import SAME, apart, prepared
from mmjax.train.state import TrainState, abstract_state

BEFORE, AFTER = 3, 30  # steps
SAVED = {'data 8': MeshShape(), 'fsdp 4 x tensor 2': MeshShape(data=1, fsdp=4, tensor=2)}

PROCESSES, WORKERS, ROWS = (1, 2, 4, 8), (0, 2), 16
STOPS = (0, 3, 5, 8, 10)  # of batches; an epoch of the first source ends with the eighth, of the second in between

STEADY = f'{Path(__file__).with_name("victim.py")}:steady'
EVERY = 3  # steps after which it moves
CUT = ('--mesh.data', '1', '--mesh.fsdp', '-1')  # parameters too, over all devices


class Layout(NamedTuple):
    """devices: of each process."""

    processes: int
    devices: int

    def __str__(self) -> str:
        return f'{self.processes}x{self.devices}'


EIGHT = Layout(1, 8)
# What a run moves through, and how it is changed otherwise.
MOVES: tuple[tuple[tuple[Layout, ...], tuple[str, ...]], ...] = (
    ((Layout(1, 4), Layout(2, 2)), ()),
    ((Layout(1, 2),), ()),
    ((Layout(2, 4),), ()),
    ((Layout(1, 1),), ()),
    ((EIGHT, Layout(2, 1), Layout(1, 4)), ()),
    ((EIGHT,), CUT),
    ((Layout(2, 4), Layout(1, 2)), CUT),
)


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: at most so many meshes, ways to read, and moves."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor() as beside:
        moved = beside.submit(bits, Path(directory), trials=trials)  # in processes of their own
        done = [*meshes(Path(directory), trials=trials), *batches(trials=trials, seed=seed)]
        return [*done, *moved.result()]


def all_shapes() -> Iterator[tuple[int, MeshShape]]:
    """With the number of devices."""
    for n in (8, 4, 2, 1):
        yield n, MeshShape()
        if n > 1:
            yield n, MeshShape(data=1, fsdp=n)
            yield n, MeshShape(data=1, tensor=n)
        if n > 2:
            yield n, MeshShape(data=2, fsdp=n // 2)
            yield n, MeshShape(data=1, fsdp=n // 2, tensor=2)
    yield 8, MeshShape(data=2, fsdp=2, tensor=2)


def meshes(base: Path, *, trials: int, after: int = AFTER) -> list[Trial]:
    made = model_of(dataclasses.replace(SMALL, heads=8))  # eight parts of them
    of = dataclasses.replace(victim(steps=BEFORE + after, every=BEFORE, keep=1), model=made.model)
    known: dict[str, tuple[Leaves, list[float]]] = {}
    for name, shape in SAVED.items():
        mesh, _, state, step = prepared(dataclasses.replace(of, mesh=shape), jax.devices()[:8])
        state, _ = _go_on(of, mesh, state, step, steps=BEFORE)
        with contextlib.closing(Checkpoints(base / name / 'checkpoints', keep=1)) as checkpoints:
            checkpoints.save(BEFORE, state, about={})
            checkpoints.wait()
        arrays = digests(state)
        known[name] = arrays, _go_on(of, mesh, state, step, steps=after)[1]
    done = []
    for n, shape in itertools.islice(all_shapes(), trials):
        on = dataclasses.replace(of, mesh=shape)
        mesh, batch, _, step = prepared(on, jax.devices()[:n])
        for name, (arrays, losses) in known.items():
            with reading(base / name) as checkpoints:
                state = checkpoints.restore(BEFORE, abstract_state(on, batch, mesh))
            wrong = '' if digests(state) == arrays else 'other arrays'
            far = apart(_go_on(of, mesh, state, step, steps=after)[1], losses)
            wrong = wrong or ('' if far <= SAME else f'losses differ by {far:.1e}')
            done.append(Trial(f'mesh/{written(mesh.shape)}', wrong and f'saved on {name}: {wrong}'))
    return done


def _go_on(
    of: Experiment, mesh: jax.sharding.Mesh, state: TrainState, step: Callable[..., Any], *, steps: int
) -> tuple[TrainState, list[float]]:
    """The state after some steps, and their losses."""
    start = int(state.step)
    rows = rows_here(of.batch_size, mesh)
    stream = train_batches(of.data, batch_size=of.batch_size, seed=of.seed, start=start, rows=rows)
    found = []
    with jax.set_mesh(mesh), jax.default_matmul_precision('highest'), contextlib.closing(stream):
        for batch in itertools.islice(stream, steps):
            state, metrics = step(state, place_batch(batch, mesh))
            found.append(float(metrics['loss']))
    return state, found


def mixture(workers: int) -> Mixture:
    """Three sources with draws of their own, whose epochs end after 8, 6.4 and 5.6 batches. Workers import no JAX."""
    fields = {'image': Pixels(width=SMALL.side), 'text': Ids(length=SMALL.length, vocabulary=100)}
    rows = {'first': 64, 'second': 34, 'third': 15}
    drop = DropModality({'image': 0.3, 'text': 0.3})
    sources: dict[str, Feed] = {name: Data(Synthetic(fields, rows=n), (drop,), cache=False) for name, n in rows.items()}
    return Mixture(sources, weights={'first': 3.0, 'second': 2.0, 'third': 1.0}, workers=workers)


def batches(*, trials: int, seed: int, workers: Sequence[int] = WORKERS) -> list[Trial]:
    """Without workers each number of processes takes each stretch between two stops in one of the trials; with them,
    which take seconds to start, one stretch.
    """
    wanted = _global_batches(mixture(0), start=0, count=STOPS[-1], processes=1, seed=seed)
    done = []
    turns = ((number, turn) for number in workers for turn in range(1 if number else len(PROCESSES)))
    for number, turn in itertools.islice(turns, trials):
        found: list[HostBatch] = []
        for place, (start, stop) in enumerate(itertools.pairwise(STOPS)):
            processes = PROCESSES[(turn + place) % len(PROCESSES)]
            found += _global_batches(mixture(number), start=start, count=stop - start, processes=processes, seed=seed)
        wrong = [i for i, (ours, theirs) in enumerate(zip(found, wanted, strict=True)) if not _equal(ours, theirs)]
        told = f'from {PROCESSES[turn]} processes on, batches {wrong} are others'
        done.append(Trial(f'batches/{number}_workers', told if wrong else ''))
    return done


def _global_batches(data: Mixture, *, start: int, count: int, processes: int, seed: int) -> list[HostBatch]:
    parts = []
    for process in range(processes):
        rows = range(ROWS * process // processes, ROWS * (process + 1) // processes)
        stream = train_batches(data, batch_size=ROWS, seed=seed, start=start, rows=rows)
        with contextlib.closing(stream):
            parts.append(list(itertools.islice(stream, count)))
    return [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]} for batch in zip(*parts, strict=True)
    ]


def _equal(ours: HostBatch, theirs: HostBatch) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[key].dtype == theirs[key].dtype and np.array_equal(ours[key], theirs[key]) for key in theirs
    )


def bits(base: Path, *, trials: int) -> list[Trial]:
    whole = base / 'whole'
    wrong = _stretch(base, whole, EIGHT, (), moves=False)
    if wrong:
        return [Trial('bits/whole', wrong)]
    done = []
    for number, (layouts, changes) in enumerate(MOVES[:trials]):
        run, wrong = base / f'moved-{number}', ''
        for place, layout in enumerate(layouts):
            wrong = wrong or _stretch(base, run, layout, changes, moves=place + 1 < len(layouts))
        done.append(Trial(move(layouts, changes), wrong or difference(run, whole)))
    return done


def move(layouts: Sequence[Layout], changes: Sequence[str]) -> str:
    """What a trial of `bits` is called."""
    return f'bits/{"cut" if changes else "data"}/{" ".join(map(str, layouts))}'


def _stretch(base: Path, run: Path, layout: Layout, changes: Sequence[str], *, moves: bool) -> str:
    """Starts a run, to its end or until it moves on; returns what is wrong."""
    arguments = ['train', STEADY, '--workdir', str(run), *changes]
    environ = {
        **cached(base),
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={layout.devices}',  # and none that a test was given
        'MMJAX_FAIL': f'loop/step@{EVERY}=term' if moves else '',
    }
    if layout.processes == 1:
        command = ['mmjax.cli']
    else:
        size = ['--processes', str(layout.processes), '--devices', str(layout.devices)]
        command = ['mmjax.distributed.local', *size, '--']
    done = subprocess.run(
        [sys.executable, '-m', *command, *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
        check=False,
    )
    if done.returncode != (Preempted.CODE if moves else 0):
        return f'{layout}: ends with {done.returncode}: {done.stdout[-600:]}'
    there = f'{layout.processes * layout.devices} cpu device(s)'
    return '' if there in done.stdout else f'{layout}: does not have {there}: {done.stdout[-600:]}'


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('elastic', (__doc__ or '').partition('\n')[0], run, trials=100, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
