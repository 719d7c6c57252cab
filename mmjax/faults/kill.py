"""Kills: a run that is killed at random moments and at each stage of its work is, in the end, the run that was not.

Each start of a run is killed by SIGKILL, at a moment that is drawn or at one of the places that `mmjax/failpoints.py`
names, and started again, until all faults were had; a run that reaches its end is judged, and another begun. Survived:
after each kill every row that was written is that of the uninterrupted run, whose `loss/rows` are what the examples of
each batch give; and the run that ends has its state, metrics, results and predictions, bit for bit. Then the same with
groups of two processes, one of which is killed, which `--restarts` start again within `SOON` seconds, and with one.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from mmjax.faults import bar
from mmjax.faults.bar import Trial
from mmjax.faults.same import difference, rows_that_differ
from mmjax.faults.starts import NEVER, Start, Starter, cached
from mmjax.faults.victim import experiment, seen
from mmjax.train.metrics import read_rows

VICTIM = str(Path(__file__).with_name('victim.py'))
PLACES = {  # the time at which each is met in one start
    'checkpoint/before': 2,
    'checkpoint/saving': 2,
    'checkpoint/removing': 2,
    'checkpoint/sealing': 2,
    'checkpoint/sealed': 2,
    'checkpoint/restoring': 1,
    'checkpoint/restored': 1,
    'loop/batch': 4,
    'loop/step': 4,
    'loop/evaluating': 2,
    'metrics/writing': 5,
    'results/writing': 1,
}
FIRST = {'checkpoint/before': 1, 'checkpoint/saving': 1, 'checkpoint/sealing': 1, 'loop/step': 1}  # of a new run
SOON = 15.0  # seconds from a death to the start after it
TRIES = 4  # starts in which a place may not be met, as where a run begins there is nothing to restore
RANDOM, GROUP, ALONE = 'random', 'group', 'supervised'


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: kills at random moments; a third as many of groups, and of one process with `--restarts`."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as directory:
        starter, base = Starter(Path(directory)), Path(directory)
        whole = base / 'whole'
        ended = starter.start('train', VICTIM, '--workdir', whole).ended()
        if ended is None or ended.code:
            return [Trial('whole', f'the run that nothing is done to: {ended}')]
        done = [Trial('examples', _examples(whole))]
        done += _alone(starter, base, whole, rng, trials=trials)
        done += kept_up(base, whole, rng, kills=max(1, trials // 3), processes=1)
        return done + kept_up(base, base / 'whole2', rng, kills=max(1, trials // 3), processes=2)


def _examples(whole: Path) -> str:
    """Whether each batch held the examples that its step has, drawn anew in this process."""
    rows = {row['step']: row['loss/rows'] for row in read_rows(whole / 'metrics.jsonl') if 'loss/rows' in row}
    wrong = [step for step, told in rows.items() if not np.isclose(told, seen(experiment(), step), rtol=1e-6)]
    return f'other examples in steps {wrong}' if wrong or len(rows) != experiment().steps else ''


def _alone(starter: Starter, base: Path, whole: Path, rng: np.random.Generator, *, trials: int) -> list[Trial]:
    later = [*PLACES.items(), *((RANDOM, 0) for _ in range(trials))]
    faults = [*FIRST.items(), *(later[i] for i in rng.permutation(len(later)))]
    tries: Counter[tuple[str, int]] = Counter()
    done, number = [], 0
    while faults:
        number += 1
        run, killed, wrong = base / f'run-{number}', [], ''
        fresh = number <= len(FIRST)  # the first runs are killed before their first commit
        for fault in faults[:1] if fresh else list(faults):
            what, hit = _start(starter, run, fault, rng)
            tries[fault] += 1
            if hit:
                killed.append(what)
                faults.remove(fault)
            elif tries[fault] >= TRIES and fault[0] != RANDOM:
                faults.remove(fault)
                done.append(Trial(fault[0], f'{what} was never met'))
            wrong = wrong or rows_that_differ(run, whole)
            if (run / 'results.json').exists():
                break
        ended = starter.start('train', VICTIM, '--workdir', run).ended()
        if ended is None or ended.code:
            wrong = wrong or f'does not go on: {ended}'
        wrong = wrong or difference(run, whole)
        done += [Trial(what.partition('@')[0], wrong and f'{what}: {wrong}') for what in killed]
    return done


def _start(starter: Starter, run: Path, fault: tuple[str, int], rng: np.random.Generator) -> tuple[str, bool]:
    """Returns what was done to a start, and whether it was killed by it."""
    place, at = fault
    if place == RANDOM:
        start = starter.start('train', VICTIM, '--workdir', run)
        _kill_some_time(start, run, rng)
        what = RANDOM
    else:
        what = f'{place}@{at}'
        start = starter.start('train', VICTIM, '--workdir', run, environ={'MMJAX_FAIL': f'{what}=kill'})
    ended = start.ended()
    return what, ended is not None and ended.code == -signal.SIGKILL


def _kill_some_time(start: Start, run: Path, rng: np.random.Generator) -> None:
    """A quarter of them before training goes on (imports, restoring, compiling), else some steps later."""
    if rng.random() < 0.25:
        start.until(lambda: 'at step' in start.said)
    else:
        wanted = rows_of(run) + int(rng.integers(2, 24))
        start.until(lambda: rows_of(run) >= wanted)
    time.sleep(rng.uniform(0, 0.3))
    start.send(signal.SIGKILL)


def rows_of(run: Path) -> int:
    file = run / 'metrics.jsonl'
    return file.read_bytes().count(b'\n') if file.exists() else 0


def kept_up(base: Path, whole: Path, rng: np.random.Generator, *, kills: int, processes: int) -> list[Trial]:
    """Kills a process of a supervised run so often, and asks how soon it was started again, and what became of it."""
    name = GROUP if processes > 1 else ALONE
    run, said = base / name, base / f'{name}.txt'
    options = ['train', VICTIM]
    if processes > 1:
        supervised([*options, '--workdir', str(whole)], base / 'whole2.txt', base, processes, restarts=0).wait(NEVER)
    done: list[Trial] = []
    with supervised([*options, '--workdir', str(run)], said, base, processes, restarts=kills) as supervisor:
        for kill in range(kills):
            before = _children(supervisor.pid)
            wanted = rows_of(run) + int(rng.integers(2, 40 // kills + 3)) if kill else 3
            until = time.monotonic() + NEVER
            while supervisor.poll() is None and rows_of(run) < wanted and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            alive = [child for child in _children(supervisor.pid) if child.is_running()]
            if supervisor.poll() is not None or not alive:
                done.append(Trial(name, 'ended before it was killed'))
                break
            alive[rng.integers(len(alive))].kill()
            died = time.monotonic()
            while time.monotonic() < died + NEVER and supervisor.poll() is None:
                now = _children(supervisor.pid)
                if len(now) == processes and not {child.pid for child in now} & {child.pid for child in before + alive}:
                    break
                time.sleep(0.02)
            late = time.monotonic() - died
            wrong = rows_that_differ(run, whole)
            done.append(Trial(name, wrong or (f'started again after {late:.1f} s' if late > SOON else '')))
        code = supervisor.wait(NEVER)
    wrong = f'ends with {code}: {said.read_text()[-500:]}' if code else difference(run, whole)
    return [Trial(name, trial.wrong or wrong) for trial in done]


def supervised(
    arguments: Sequence[str],
    said: Path,
    base: Path,
    processes: int,
    *,
    restarts: int,
    environ: Mapping[str, str] | None = None,
) -> 'subprocess.Popen[bytes]':
    """`mmjax train --restarts` of one process, the launcher of several."""
    kept = ['--restarts', str(restarts)]
    if processes == 1:
        command = [sys.executable, '-m', 'mmjax.cli', *arguments, *kept]
    else:
        launcher = [sys.executable, '-m', 'mmjax.distributed.local', '--processes', str(processes), '--devices', '2']
        command = [*launcher, *kept, '--', *arguments]
    with said.open('w') as file:
        return subprocess.Popen(
            command, env=os.environ | cached(base) | dict(environ or {}), stdout=file, stderr=subprocess.STDOUT
        )


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('kill', (__doc__ or '').partition('\n')[0], run, trials=20, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
