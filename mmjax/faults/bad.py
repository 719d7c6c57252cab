"""Bad data: counted by reason, named, the same for all, never too much of it, and in bounded memory.

Of a set of shards each kind of `dirty.kinds` makes 1 %; one shard has no byte. Survived: an epoch, read by 1, 2 and 4
processes, with workers and without, cached and not, tells of just the rows that were harmed, the reason that is owed;
a run ends, and its bad_records.jsonl is right, also where it is told to end and goes on, and of two processes; with the
share allowed by default it stops, and goes on with a larger one; reading takes at most `ROOM` more than clean data.
"""

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmjax.data import train_batches
from mmjax.faults import bar, dirty
from mmjax.faults.bar import Trial
from mmjax.faults.kill import supervised
from mmjax.faults.starts import NEVER, Starter
from mmjax.train.metrics import BAD_RECORDS, read_rows

CONFIG = str(Path(__file__).with_name('dirty.py'))
SHARE, BATCH, ROOM = 0.01, 32, 200 << 20  # bytes
# Processes, cached, workers.
WAYS = (*itertools.product((1, 2, 4), (False, True), (0,)), (1, False, 2), (2, False, 2))


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: examples of the set, in hundreds."""
    rows = 100 * trials
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        wrong = dirty.write(base / dirty.FOLDER, rows=rows, share=SHARE, seed=seed)
        dirty.write(base / 'clean' / dirty.FOLDER, rows=rows, share=0.0, seed=seed)
        before = os.environ.get('MMJAX_DATA')
        os.environ['MMJAX_DATA'] = str(base)
        try:
            return [*read(rows, wrong), *_runs(base, wrong), _memory(base, rows)]
        finally:
            os.environ.pop('MMJAX_DATA') if before is None else os.environ.update(MMJAX_DATA=before)


def read(rows: int, wrong: dict[int, str], *, ways: Sequence[tuple[int, bool, int]] = WAYS) -> list[Trial]:
    """An epoch, and a part of the next, by several processes: the rows of each are those of a process of a group."""
    batches, done, first = -(-rows // BATCH) + 3, [], None
    for processes, cache, workers in ways:
        met: list[dict[str, Any]] = []
        for process in range(processes):
            mine = range(BATCH * process // processes, BATCH * (process + 1) // processes)
            data = dirty.data(cache=cache, workers=workers)
            stream = train_batches(data, batch_size=BATCH, seed=3, rows=mine, bad=met.extend)
            for _ in itertools.islice(stream, batches):
                pass
            stream.close()
        met.sort(key=lambda one: one['place'])
        told = {one['row']: one['reason'] for one in met}
        epoch = [one for one in met if one['place'] < rows]
        first = first or met
        same = met == first
        odd = sorted(row for row in {*told, *wrong} if told.get(row) != wrong.get(row))
        how = f'{processes} processes, {workers} workers, cache {cache}'
        fault = ''
        if odd:
            fault = f'{how}: row {odd[0]} is {told.get(odd[0])}, not {wrong.get(odd[0])}, and {len(odd) - 1} more'
        elif len(epoch) != len(wrong) or not same:
            fault = f'{how}: {len(epoch)} of {len(wrong)} in an epoch; the same as the first: {same}'
        done.append(Trial('read', fault))
    return done


def _runs(base: Path, wrong: dict[int, str]) -> list[Trial]:
    starter = Starter(base)

    def start(run: str, *options: str, fails: str = '') -> Any:
        environ = {'MMJAX_FAIL': fails, 'MMJAX_DATA': str(base)}
        return starter.start('train', CONFIG, '--workdir', base / run, *options, environ=environ).ended()

    ended = start('whole')
    if ended is None or ended.code:
        return [Trial('run', f'the run does not end: {ended}')]
    told = {row['row']: row['reason'] for row in read_rows(base / 'whole' / BAD_RECORDS)}
    odd = sorted(row for row, reason in told.items() if wrong.get(row) != reason)
    last = read_rows(base / 'whole' / 'metrics.jsonl')[-1]
    met = sum(row['step'] <= last['step'] for row in read_rows(base / 'whole' / BAD_RECORDS))
    right = not odd and last['bad_records'] == met and 'bad examples: ' in ended.said
    done = [Trial('run', '' if right else f'rows {odd} are wrong, {last} counted, not {met}')]

    for place in ('loop/step@33', 'loop/batch@61', 'checkpoint/saving@2'):
        run = 'resumed-' + place.replace('/', '-')
        start(run, fails=f'{place}=term')
        ended = start(run)
        same = _text(base / run) == _text(base / 'whole')
        done.append(Trial('resumed', '' if same and ended and not ended.code else f'{place}: {ended}'))

    group = supervised(
        ['train', CONFIG, '--workdir', str(base / 'group')], base / 'group.txt', base, 2, restarts=0
    ).wait(NEVER)
    same = _text(base / 'group') == _text(base / 'whole')
    said = (base / 'group.txt').read_text()[-500:]
    done.append(Trial('group', '' if same and not group else f'ended with {group}: {said}'))

    ended = start('budget', '--bad-records', '0.01')
    stops = (
        ended is not None and ended.code == 2 and 'could not be used' in ended.said and 'Traceback' not in ended.said
    )
    done.append(Trial('budget', '' if stops else f'did not stop: {ended}'))
    ended = start('budget', '--bad-records', '0.3')
    same = _text(base / 'budget') == _text(base / 'whole')
    done.append(Trial('budget', '' if same and ended and not ended.code else f'does not go on: {ended}'))
    return done


def _text(run: Path) -> str:
    file = run / BAD_RECORDS
    return file.read_text() if file.exists() else json.dumps(None)


def _memory(base: Path, rows: int) -> Trial:
    """Peaks of two processes of their own, one of which reads clean data."""
    context = multiprocessing.get_context('spawn')
    peaks = []
    for home in (base / 'clean', base):
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            peaks.append(pool.submit(_peak, str(home), rows).result())
    more = peaks[1] - peaks[0]
    return Trial('memory', '' if more < ROOM else f'{more >> 20} MiB more than clean data')


def _peak(home: str, rows: int) -> int:
    os.environ['MMJAX_DATA'] = home
    stream = train_batches(dirty.data(), batch_size=BATCH, seed=3, bad=lambda _: None)
    for _ in itertools.islice(stream, rows // BATCH):
        pass
    stream.close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('bad', (__doc__ or '').partition('\n')[0], run, trials=20, argv=argv)


if __name__ == '__main__':
    sys.exit(main())
