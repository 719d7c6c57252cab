"""Places in the code where something can be made to go wrong, named, so that a test can hit each of them.

    MMJAX_FAIL='checkpoint/saving@2=kill'    # at the second time that a process comes to this place

Several are joined by `;`. `1:checkpoint/saving@2=kill` is for process 1 of a group alone. Without the variable nothing
happens. `mmjax/faults/` uses them; nobody else should.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from mmjax.errors import UserError, nearest

VARIABLE = 'MMJAX_FAIL'
PLACES = (
    'checkpoint/before',  # a save is due
    'checkpoint/saving',  # its arrays are being written, in the background
    'checkpoint/removing',  # older ones are about to be removed
    'checkpoint/sealing',  # it is whole, and has no seal yet
    'checkpoint/sealed',
    'checkpoint/restoring',
    'checkpoint/restored',
    'data/reading',  # of a batch, in a thread or in a process of its own
    'loop/batch',  # the next batch is asked for
    'loop/step',  # a step has been started
    'loop/evaluating',
    'results/writing',
    'metrics/writing',
    'ledger/writing',
)


class Injected(Exception):
    """An error that was asked for."""


def _fail() -> None:
    raise Injected('asked for by MMJAX_FAIL')


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _hang() -> None:
    while True:
        time.sleep(1)


ACTIONS: dict[str, Callable[[], None]] = {
    'kill': lambda: os.kill(os.getpid(), signal.SIGKILL),
    'term': lambda: os.kill(os.getpid(), signal.SIGTERM),
    'stop': lambda: os.kill(os.getpid(), signal.SIGSTOP),
    'raise': _fail,
    'full': _full,  # as of a disk that has no room
    'hang': _hang,
}

_times: Counter[str] = Counter()
_counting = threading.Lock()


def failpoint(place: str) -> None:
    """Does what `MMJAX_FAIL` says of this place, one of `PLACES`.

    Raises:
        UserError: on a variable that cannot be read.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    with _counting:
        _times[place] += 1
        time_of_it = _times[place]
    action = plan(asked).get((place, time_of_it)) or plan(asked).get((place, 0))
    if action:
        print(f'mmjax: {place}, time {time_of_it}: {action}, as {VARIABLE} says', file=sys.stderr, flush=True)
        ACTIONS[action]()


def plan(asked: str) -> Mapping[tuple[str, int], str]:
    """By place and time (0: each time) the name of what is to happen.

    Raises:
        UserError: on places or actions that are not known.
    """
    found = {}
    for part in filter(None, asked.split(';')):
        process, colon, own = part.rpartition(':')
        if colon and process != os.environ.get('MMJAX_PROCESS', '0'):
            continue
        where, _, action = own.partition('=')
        place, _, time_of_it = where.partition('@')
        if place not in PLACES:
            raise UserError(f'{VARIABLE}: no place {place!r}{nearest(place, PLACES)} (there are {", ".join(PLACES)})')
        if action not in ACTIONS or not (time_of_it or '0').isdecimal():
            raise UserError(f'{VARIABLE}: {part!r} is no PLACE@TIME=ACTION, with one of {", ".join(ACTIONS)}')
        found[place, int(time_of_it or 0)] = action
    return found
