"""Disk full: training goes on, nothing is announced that is not on disk, and saving begins again when there is room.

A run trains on a file system of its own in memory (`unshare`, `mount`: Linux, as root or where users may have name
spaces). While it trains a ballast takes all that is free, and is taken away some time after the run has told of it.
Survived: it ends as the run that nothing was done to, bit for bit; it said that it did not save; at no moment had it
fewer whole checkpoints than before, once there was one; each that it left can be read. Rows and a study's ledger meet
the same.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmjax.faults import bar
from mmjax.faults.bar import Trial
from mmjax.faults.same import difference
from mmjax.faults.starts import Starter
from mmjax.faults.victim import experiment
from mmjax.study.ledger import Ledger
from mmjax.study.study import Study
from mmjax.train.checkpoint import steps_in

VICTIM = str(Path(__file__).with_name('victim.py'))
SIZE = 16 << 20  # bytes of the file system: some checkpoints of the victim, of 2 MiB each
LONG = ['--steps', '800', '--checkpoint.every', '20', '--checkpoint.keep', '2', '--evals.held-out.every', '50']
FULL_FOR = 1.0  # seconds, at most, that the disk stays full after it was told
INSIDE = 'MMJAX_FAULTS_INSIDE'


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: runs whose disk is full for some time; as many whose rows meet it alone, and ledgers."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as directory:
        base, starter = Path(directory), Starter(Path(directory))
        small = base / 'small'
        small.mkdir()
        subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'none', small], check=True)
        whole = base / 'whole'
        ended = starter.start('train', VICTIM, *LONG, '--workdir', whole).ended()
        if ended is None or ended.code:
            return [Trial('whole', f'the run that nothing is done to: {ended}')]
        done = []
        for number in range(trials):
            done.append(Trial('checkpoints', _run(starter, small / f'run-{number}', whole, rng)))
            shutil.rmtree(small / f'run-{number}')
            done.append(Trial('rows', _rows(starter, base / f'rows-{number}', whole, rng)))
            done.append(Trial('ledger', _ledger(small, number)))
        subprocess.run(['umount', small], check=True)
        return done


def _run(starter: Starter, run: Path, whole: Path, rng: np.random.Generator) -> str:
    ballast, fewer = run.with_name('ballast'), []
    ended, watched = threading.Event(), threading.Thread(target=lambda: _watch(run / 'checkpoints', ended, fewer))
    start = starter.start('train', VICTIM, *LONG, '--workdir', run)
    watched.start()
    try:
        first = int(rng.integers(20, 160))
        start.until(lambda: _count(run) > first)
        _fill(ballast)
        if not start.until(lambda: 'is not saved' in start.said):
            return f'did not say that it does not save: {start.said[-500:]}'
        time.sleep(rng.uniform(0, FULL_FOR))
        kept = steps_in(run / 'checkpoints')
        ballast.unlink()
        if not start.until(lambda: bool(set(steps_in(run / 'checkpoints')) - set(kept))):
            return f'did not save any more when there was room: {start.said[-500:]}'
        end = start.ended()
    finally:
        start.send(signal.SIGKILL)
        start.ended()
        ended.set()
        watched.join()
        ballast.unlink(missing_ok=True)
    if end is None or end.code:
        return f'did not end: {end}'
    return difference(run, whole) or '; '.join(fewer)


def _fill(ballast: Path) -> None:
    with ballast.open('wb', buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def _watch(checkpoints: Path, ended: threading.Event, fewer: list[str]) -> None:
    """Notes where a moment comes with no whole checkpoint after one that had some."""
    had = False
    while not ended.wait(0.002):
        now = bool(steps_in(checkpoints))
        if had and not now and not fewer:
            fewer.append('there was a moment without any checkpoint')
        had = had or now


def _rows(starter: Starter, run: Path, whole: Path, rng: np.random.Generator) -> str:
    """Rows alone cannot be written, at some steps in a row: as where a quota is."""
    first, times = int(rng.integers(1, 300)), int(rng.integers(1, 60))
    fails = ';'.join(f'metrics/writing@{i}=full' for i in range(first, first + times))
    end = starter.start('train', VICTIM, *LONG, '--workdir', run, environ={'MMJAX_FAIL': fails}).ended()
    if end is None or end.code or 'its rows wait' not in end.said:
        return f'{first} and {times} more: {end}'
    return difference(run, whole)


def _ledger(small: Path, number: int) -> str:
    """A study's ledger on a full disk, which is freed while a finished run waits to be written."""
    directory, ballast = small / f'study-{number}', small / 'ballast'
    ledger = Ledger(directory, _study())
    rows = [{'run': f'{i}', 'text': 'x' * 5000} for i in range(3)]
    ledger.add(rows[0])
    _fill(ballast)
    freed = threading.Timer(1.5, ballast.unlink)
    freed.start()
    for row in rows[1:]:
        ledger.add(row)
    freed.join()
    found = ledger.rows()
    return '' if found == {row['run']: row for row in rows} else f'holds {sorted(found)}'


def _study() -> Study:
    return Study(name='ledger', base=experiment(), arms=(), reference='none')


def _count(run: Path) -> int:
    file = run / 'metrics.jsonl'
    return file.read_bytes().count(b'\n') if file.exists() else 0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if INSIDE not in os.environ:
        command = ['unshare', '--mount', '--map-root-user', sys.executable, '-m', 'mmjax.faults.full', *arguments]
        try:
            return subprocess.run(command, env=os.environ | {INSIDE: '1'}, check=False).returncode
        except FileNotFoundError:
            print('mmjax: error: this bar needs `unshare` (util-linux, on Linux)', file=sys.stderr)
            return 2
    return bar.main('disk', (__doc__ or '').partition('\n')[0], run, trials=6, argv=arguments)


if __name__ == '__main__':
    sys.exit(main())
