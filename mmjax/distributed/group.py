"""What the processes of a group owe one another: the first one's word, and an end for all where one of them fails.

They talk through the key-value store of JAX's coordination service, which needs no device and no shared disk.
"""

import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

# Where JAX keeps its connection to the coordination service; there is no public name for it yet.
from jax._src import distributed

from mmjax.distributed.join import join
from mmjax.errors import Preempted, UserError

T = TypeVar('T')

ENDED, SAID, LEFT = 'mmjax/ended', 'mmjax/said', 'mmjax/left'
LOOK = 0.3  # seconds between looks at whether another process has failed, of few processes; of more than
RATE = 500  # it is as many looks a second of all of them together, which the one service has to answer
TRIES = 5  # looks in a row, within the time between two, that fail where the service is gone; one may by chance
PATIENCE = 600  # seconds that one process may be ahead of the others where all meet
GRACE = 10.0  # seconds that the processes of a failed group wait for one another

_turns = itertools.count()
_leaving = threading.Lock()


@contextmanager
def group(*, flags: Mapping[str, str] | None = None) -> Iterator[bool]:
    """Joins the other processes, if there are any; gives whether this one is the first, which alone writes and prints.

    flags: what the command line says of the group, as of `join`.

    Where there are others, an error in the block, in whichever process, ends all of them within seconds and with the
    same exit code: 2 for a UserError, 130 where one was interrupted, else 1. It is printed once. All end together.
    """
    join(flags=flags)
    if _alone():
        yield True
        return
    stop = threading.Event()
    threading.Thread(target=_watch, args=[stop], daemon=True).start()
    try:
        yield is_first()
        shared(lambda: None)  # the first is done: before, its errors are everybody's
        stop.set()
    except UserError as error:
        _end(2, f'mmjax: error: {error}')
    except KeyboardInterrupt:
        _end(130, '\nmmjax: interrupted; the same command goes on from the last checkpoint')
    except Preempted:
        _end(Preempted.CODE, Preempted.TOLD)
    except SystemExit as error:
        _end(error.code if isinstance(error.code, int) else int(error.code is not None), '')
    except BaseException:
        _end(1, f'mmjax: process {distributed.global_state.process_id} failed\n{traceback.format_exc()}')


def is_first() -> bool:
    """Whether this process is the first of its group, or alone: the one that writes and prints. Asks no device."""
    return distributed.global_state.process_id == 0


def number_of() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are. Asks no device."""
    return distributed.global_state.process_id, distributed.global_state.num_processes


def shared(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, as JSON holds it; the others do not call it and wait for its value.

    For what lies on a disk that only the first may see, or that it may be writing to. All processes must come here, in
    the same order.
    """
    if _alone():
        return make()
    key = f'mmjax/shared/{next(_turns)}'
    if is_first():
        text = json.dumps(make())
        _store().key_value_set(key, text)
        return json.loads(text)
    return json.loads(_awaited(key))


def gathered(mine: T) -> list[T]:
    """What each process brings, as JSON holds it, in the order of their numbers. All must come here, as to `shared`."""
    if _alone():
        return [json.loads(json.dumps(mine))]
    turn, me = next(_turns), distributed.global_state.process_id
    _store().key_value_set(f'mmjax/gathered/{turn}/{me}', json.dumps(mine))
    numbers = range(distributed.global_state.num_processes)
    # The first alone reads them one by one: of a thousand processes that did, the service would have a million reads.
    return shared(lambda: [json.loads(_awaited(f'mmjax/gathered/{turn}/{process}')) for process in numbers])


def together() -> None:
    """Returns once all processes are here: before their first collectives, which Gloo gives half a minute to meet."""
    if not _alone():
        _store().wait_at_barrier(f'mmjax/together/{next(_turns)}', PATIENCE * 1000)


def _alone() -> bool:
    return distributed.global_state.client is None or distributed.global_state.num_processes == 1


def _store() -> Any:
    return distributed.global_state.client


def _awaited(key: str) -> str:
    while True:
        try:
            return _store().blocking_key_value_get(key, 10_000)
        except Exception as error:  # another may take its time; where it fails, `_watch` ends this process
            if 'DEADLINE_EXCEEDED' not in str(error):
                raise


def _read(key: str) -> str | None:
    try:
        return _store().key_value_try_get(key)
    except Exception as error:
        if 'NOT_FOUND' in str(error):
            return None
        raise


def _watch(stop: threading.Event) -> None:
    """Ends this process where another has failed, or where the first cannot be reached any more."""
    failed = 0
    while not stop.wait(_pause() / (TRIES if failed else 1)):
        try:
            ended = _read(ENDED)
        except Exception:
            failed += 1
            if failed < TRIES:
                continue
            if not stop.is_set():
                print('mmjax: process 0 is gone, and with it the group', file=sys.stderr, flush=True)
                os._exit(1)
            return
        failed = 0
        if ended is not None:
            _end(1, '')


def _pause() -> float:
    return max(LOOK, distributed.global_state.num_processes / RATE)


def _end(code: int, message: str) -> NoReturn:
    """Ends this process, and the others with the same exit code. Of several errors the one that came first counts."""
    if not _leaving.acquire(blocking=False):
        threading.Event().wait()  # the other thread is about to end this process
    try:
        code = _end_all(code, message)
    except Exception:  # the service is gone
        print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the usual way out waits for processes that are waiting for this one


def _end_all(code: int, message: str) -> int:
    me, others = distributed.global_state.process_id, distributed.global_state.num_processes - 1
    mine = json.dumps({'code': code, 'message': message, 'process': me})
    try:
        _store().key_value_set(ENDED, mine)
    except Exception as error:
        if 'ALREADY_EXISTS' not in str(error):
            raise
    first = json.loads(_read(ENDED) or mine)
    if me == 0:
        if first['message']:
            print(first['message'], file=sys.stderr, flush=True)
        _store().key_value_set(SAID, 'yes')
        # The service ends with this process, and JAX aborts whoever is still connected to it then.
        _wait(lambda: len(_store().key_value_dir_get(LEFT)) >= others)
    else:
        if not _wait(lambda: _read(SAID) is not None) and first['process'] == me:
            print(message, file=sys.stderr, flush=True)
        _store().key_value_set(f'{LEFT}/{me}', 'yes')
    return first['code']


def _wait(done: Callable[[], bool]) -> bool:
    """Whether it was done within the time of grace."""
    until = time.monotonic() + GRACE
    while not (found := done()) and time.monotonic() < until:
        time.sleep(_pause() / 6)
    return found


def say(line: str) -> None:
    """Prints a line for people, on stderr, once a group."""
    if is_first():
        print(line, file=sys.stderr, flush=True)
