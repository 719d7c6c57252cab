"""Signals and hangs: told to end, a run ends where it stands and has saved it; standing still, it ends and says where.

SIGTERM at each stage of a run, by the run itself at one of the places of `mmjax/failpoints.py` or from outside at a
random moment. Survived: exit code 143 (of one that had not begun, death by the signal) within `SOON` seconds; the
newest checkpoint is that of the last row; the same command then makes of it the run that was never told to end. Hangs:
of the loop, of a worker that reads data, of a file that never answers, of a frozen process of a group, of an error in
one of two. Survived: within `GONE` seconds no process of the run is left; the exit code is not 0; the
stacks that were printed name where it hung; then as before.
"""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from mmjax.faults import bar
from mmjax.faults.bar import Trial
from mmjax.faults.kill import VICTIM, rows_of, supervised
from mmjax.faults.same import difference, rows_that_differ
from mmjax.faults.starts import NEVER, Ended, Starter
from mmjax.train.checkpoint import steps_in
from mmjax.train.metrics import read_rows

SOON = 10.0  # seconds from the signal to the end
PATIENCE = 15.0  # of a run that is to hang: seconds; compiling takes less
GONE = 30.0  # seconds after which nothing of what hung is left
PLACES = (  # and the time at which they are met
    'loop/batch@4',
    'loop/batch@37',
    'loop/step@1',  # compiled a moment ago
    'loop/step@23',
    'loop/evaluating@1',
    'loop/evaluating@7',
    'checkpoint/before@2',
    'checkpoint/saving@3',
    'checkpoint/sealing@3',
    'metrics/writing@11',
    'results/writing@1',
)
STALLED, RANDOM, GROUP = 'stalled', 'random', 'group'
WORKER = ['--data.workers', '1', '--data.no-cache']


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: signals to a run alone; a fifth as many go to a group. Each kind of hang is tried once."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        starter, whole = Starter(base), base / 'whole'
        ended = starter.start('train', VICTIM, '--workdir', whole).ended()
        if ended is None or ended.code:
            return [Trial('whole', f'the run that nothing is done to: {ended}')]
        done = []
        for number in range(trials):
            kinds = (*PLACES, STALLED, *[RANDOM] * 4)
            done.append(_told(starter, base / f'told-{number}', whole, kinds[number % len(kinds)], rng))
        done += [_hang(starter, base, whole, name, make) for name, make in HANGS.items()]
        whole_group = base / 'whole-group'
        supervised(['train', VICTIM, '--workdir', str(whole_group)], base / 'group.txt', base, 2, restarts=0).wait(
            NEVER
        )
        for number in range(max(1, trials // 5)):
            done.append(_group(base, base / f'group-{number}', whole_group, rng, lambda one: one.terminate(), code=143))
        done.append(_group(base, base / 'frozen', whole_group, rng, lambda one: one.suspend(), code=None))
        done.append(_group(base, base / 'error', whole_group, rng, None, code=1))
        return done


def _told(starter: Starter, run: Path, whole: Path, kind: str, rng: np.random.Generator) -> Trial:
    """One signal, at one of PLACES, while there is no batch, or some time."""
    fails = {STALLED: 'loop/batch@9=hang', RANDOM: ''}.get(kind, f'{kind}=term')
    start = starter.start('train', VICTIM, '--workdir', run, environ={'MMJAX_FAIL': fails})
    if kind in (STALLED, RANDOM):
        wanted = 8 if kind == STALLED else int(rng.integers(0, 70))
        start.until(lambda: rows_of(run) >= wanted and 'at step' in start.said)
        time.sleep(0.2 if kind == STALLED else rng.uniform(0, 0.1))
        start.send(signal.SIGTERM)
    else:
        start.until(lambda: 'MMJAX_FAIL says' in start.said)
    at = time.monotonic()
    ended = start.ended()
    late = time.monotonic() - at
    return Trial(kind.partition('@')[0], _judged(starter, run, whole, ended, late=late, kind=kind))


def _judged(starter: Starter, run: Path, whole: Path, ended: Ended | None, *, late: float, kind: str) -> str:
    begun = ended is not None and 'at step' in ended.said
    if ended is None or ended.code not in ((143, 0) if begun else (143, -signal.SIGTERM)):
        return f'{kind}: {ended}'
    if late > SOON:
        return f'{kind}: ended after {late:.1f} s'
    if wrong := _newest_is_last(run):
        return f'{kind}: {wrong}; {ended.said[-600:]}'
    wrong = rows_that_differ(run, whole)
    again = starter.start('train', VICTIM, '--workdir', run).ended()
    return wrong or (f'{kind}: does not go on: {again}' if again is None or again.code else difference(run, whole))


def _newest_is_last(run: Path) -> str:
    """Whether the last step that has a row is saved."""
    file = run / 'metrics.jsonl'
    rows = read_rows(file) if file.exists() else []
    last, there = (rows[-1]['step'] if rows else 0), steps_in(run / 'checkpoints')
    return '' if (there[-1] if there else 0) == last else f'did {last} steps and saved {there}'


def _fifo(run: Path) -> None:
    """A file that nobody ever answers."""
    (run / 'timing.jsonl').unlink()
    os.mkfifo(run / 'timing.jsonl')


# What is done to a run that is there; changes to its config; what it is made to do; what the stacks must name.
HANGS: dict[str, tuple[Callable[[Path], object], list[str], str, str]] = {
    'hang/loop': (lambda _: None, [], 'loop/batch@9=hang', 'in _hang'),
    'hang/evaluation': (lambda _: None, [], 'loop/evaluating@2=hang', 'in _hang'),
    'hang/saving': (lambda _: None, [], 'checkpoint/before@1=hang', 'in _hang'),
    'hang/file': (_fifo, [], '', 'in read_rows'),
    'hang/worker': (lambda _: None, WORKER, 'data/reading@9=hang', 'in _hang'),
}


def _hang(
    starter: Starter, base: Path, whole: Path, name: str, how: tuple[Callable[[Path], object], list[str], str, str]
) -> Trial:
    prepare, changes, fails, named = how
    run = base / name.replace('/', '-')
    command = ['train', VICTIM, '--workdir', run, *changes]
    first = starter.start(*command, environ={'MMJAX_FAIL': 'loop/batch@20=term'}).ended()
    if first is None or first.code != 143:
        return Trial(name, f'cannot begin: {first}')
    prepare(run)
    start = starter.start(*command, '--patience', PATIENCE, environ={'MMJAX_FAIL': fails})
    family: set[psutil.Process] = set()
    watched = threading.Thread(target=_watch, args=[start.pid, start.alive, family])
    watched.start()
    ended = start.ended(within=NEVER)
    watched.join()
    left = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    if ended is None or not ended.code or ended.seconds > GONE:
        return Trial(name, f'was not ended, or not in time: {ended}')
    if left:
        return Trial(name, f'left {left}')
    if named not in ended.said or 'nothing was done for' not in ended.said:
        return Trial(name, f'does not say {named!r}: {ended.said[-1500:]}')
    if (run / 'timing.jsonl').is_fifo():
        (run / 'timing.jsonl').unlink()
    again = starter.start(*command).ended()
    if again is None or again.code:
        return Trial(name, f'does not go on: {again}')
    return Trial(name, difference(run, whole))


def _watch(pid: int, alive: Callable[[], bool], family: set[psutil.Process]) -> None:
    """Collects the processes that a process starts."""
    while alive():
        try:
            family.update(psutil.Process(pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return
        time.sleep(0.1)


def _group(
    base: Path,
    run: Path,
    whole: Path,
    rng: np.random.Generator,
    harm: Callable[[psutil.Process], object] | None,
    *,
    code: int | None,
) -> Trial:
    """harm: done to one of two processes; None: an error in the second. code: with which all end; None: not 0."""
    name = GROUP if harm and code else f'hang/{run.name}'
    said = base / f'{run.name}.txt'
    fails = '' if harm else '1:loop/step@9=raise'
    options = ['train', VICTIM, '--workdir', str(run), '--patience', str(PATIENCE)]
    with supervised(options, said, base, 2, restarts=0, environ={'MMJAX_FAIL': fails}) as group:
        wanted, until = int(rng.integers(3, 40)), time.monotonic() + NEVER
        while group.poll() is None and rows_of(run) < wanted and time.monotonic() < until:
            time.sleep(0.005)
        family = psutil.Process(group.pid).children(recursive=True) if group.poll() is None else []
        if harm and family:
            harm([child for child in family if child.is_running()][-1 if code is None else int(rng.integers(2))])
        at = time.monotonic()
        ended = group.wait(NEVER)
        late = time.monotonic() - at
    left = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    text = said.read_text(errors='replace')
    if left or (ended != code if code else not ended):
        return Trial(name, f'ended with {ended}, left {left}: {text[-1500:]}')
    if late > (SOON if code else GONE):
        return Trial(name, f'ended after {late:.1f} s')
    if code == 143 and (wrong := _newest_is_last(run)):
        return Trial(name, wrong)
    again = supervised(['train', VICTIM, '--workdir', str(run)], base / f'{run.name}-again.txt', base, 2, restarts=0)
    return Trial(name, f'does not go on: {again.returncode}' if again.wait(NEVER) else difference(run, whole))


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('signal', (__doc__ or '').partition('\n')[0], run, trials=20, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
