"""Damage to the newest checkpoint: found before step 1, named, put aside, and the newest good one taken.

Each trial copies a run of three checkpoints, harms the newest (every fifth time the one before too; now and then all of
them) in one of the ways of `HARMS`, and lets training choose what it goes on from (`train.resume.resumed`). Survived:
what was harmed is named and put aside, and the state is, array for array, that which the newest good checkpoint was
saved with; where none is good, an error.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import UserError
from mmjax.faults import bar
from mmjax.faults.bar import Trial, victim
from mmjax.train.checkpoint import Checkpoints, damaged_in, reading, steps_in
from mmjax.train.digests import Leaves, digests
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.resume import resumed
from mmjax.train.run import train
from mmjax.train.state import TrainState, abstract_state, mesh_of

STEPS = (2, 4, 6)
Harm = Callable[[Path, Path, np.random.Generator], Any]


def _flip(file: Path, _: Path, rng: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


# file, the same file of another checkpoint, and draws; of a file that is not empty, and differs from the other.
HARMS: dict[str, Harm] = {
    'delete': lambda file, *_: file.unlink(),
    'truncate': lambda file, _, rng: os.truncate(file, int(rng.integers(1, file.stat().st_size))),
    'empty': lambda file, *_: os.truncate(file, 0),
    'one_bit': _flip,
    'swap_with_older': lambda file, other, _: shutil.copy(other, file),
}
DIRECTORY = 'whole_directory'


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: numbers of them; kinds of harm in turn, files at random."""
    rng, experiment = np.random.default_rng(seed), victim(steps=STEPS[-1], every=2, keep=len(STEPS))
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory, 'whole')
        train(experiment, workdir=str(whole), report=False)
        batch = shapes_of_batch(experiment)
        like = abstract_state(experiment, batch, mesh_of(experiment, batch))
        known = {step: _digests(whole, step, like) for step in STEPS}
        done = []
        for number in range(trials):
            harm = (*HARMS, DIRECTORY)[number % (len(HARMS) + 1)]
            harmed = 3 if number % 25 == 24 else 2 if number % 5 == 4 else 1
            copy = Path(shutil.copytree(whole, Path(directory, f'{number}')))
            what = ', '.join(_harm(copy, step, harm, rng) for step in STEPS[-harmed:])
            wrong = _judged(copy, like, known, harmed)
            done.append(Trial(harm, f'{what}: {wrong}' if wrong else ''))
            shutil.rmtree(copy)
            bar.progress(number, trials)
        return done


def _harm(copy: Path, step: int, harm: str, rng: np.random.Generator) -> str:
    """Returns what was done, to which file."""
    directory, other = copy / 'checkpoints' / str(step), copy / 'checkpoints' / str(STEPS[0] if step > 2 else 4)
    if harm == DIRECTORY:
        shutil.rmtree(directory)
        return f'{step} removed'
    files = [file for file in sorted(directory.rglob('*')) if file.is_file() and file.stat().st_size]
    twins = {file: other / file.relative_to(directory) for file in files}
    if harm == 'swap_with_older':
        files = [f for f in files if twins[f].is_file() and twins[f].read_bytes() != f.read_bytes()]
    if harm == 'truncate':
        files = [file for file in files if file.stat().st_size > 1]
    file = files[rng.integers(len(files))]
    HARMS[harm](file, twins[file], rng)
    return f'{step}/{file.relative_to(directory)}'


def _judged(copy: Path, like: TrainState, known: dict[int, Leaves], harmed: int) -> str:
    """What is wrong with what training makes of a harmed run; '' where nothing is."""
    said: list[str] = []
    with contextlib.closing(Checkpoints(copy / 'checkpoints', keep=len(STEPS))) as checkpoints:
        try:
            state: Any = resumed(checkpoints, like, say=said.append)
        except UserError as error:
            return '' if harmed == len(STEPS) and 'none of the checkpoints' in str(error) else f'stopped: {error}'
    if harmed == len(STEPS):
        return 'began anew without a word' if state is None else f'went on from step {int(state.step)}'
    good, bad = STEPS[-harmed - 1], STEPS[-harmed:]
    if state is None or digests(state) != known[good]:
        return f'is not the state of step {good}'
    if set(damaged_in(copy / 'checkpoints')) != set(bad) or steps_in(copy / 'checkpoints')[-1] != good:
        return f'put aside: {sorted(damaged_in(copy / "checkpoints"))}, not {list(bad)}'
    unnamed = [step for step in bad if not any(f'checkpoints/{step}:' in x or f'checkpoint {step} ' in x for x in said)]
    return f'steps {unnamed} are not named in {said}' if unnamed else ''


def _digests(run: Path, step: int, like: TrainState) -> Leaves:
    with reading(run) as checkpoints:
        return digests(checkpoints.restore(step, like))


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('damage', (__doc__ or '').partition('\n')[0], run, trials=240, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
