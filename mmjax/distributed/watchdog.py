"""A run that stands still ends, and says where: a process that waits for ever costs a whole group, and tells nobody."""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

FROZEN = 10.0  # seconds more, after which a process that cannot even run Python is ended too
SETTLES = 1.0  # seconds for child processes to say where they are


def _nothing() -> None:
    pass


@contextlib.contextmanager
def watchdog(patience: float) -> Iterator[Callable[[], None]]:
    """Gives a function to be called whenever something has been done. Where it is not for `patience` seconds, this
    process and those that it has started (which read data) print the stack of every thread, and end; exit code 1.

    patience: 0: for ever.
    """
    if not patience:
        yield _nothing
        return
    ended, last = threading.Event(), [time.monotonic()]

    def beat() -> None:
        last[0] = time.monotonic()

    def arm() -> None:
        """A thread that needs no Python to run: what holds the interpreter for good is ended by it."""
        faulthandler.dump_traceback_later(patience + FROZEN, exit=True, file=sys.__stderr__ or sys.stderr)

    def watch() -> None:
        pause = min(1.0, patience / 10)
        while not ended.wait(pause):
            arm()
            if time.monotonic() - last[0] > patience:
                _end(patience)
        faulthandler.cancel_dump_traceback_later()

    before = os.environ.get('PYTHONFAULTHANDLER')
    os.environ['PYTHONFAULTHANDLER'] = '1'  # children print their stacks when they are aborted
    arm()
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield beat
    finally:
        ended.set()
        watching.join()
        if before is None:
            del os.environ['PYTHONFAULTHANDLER']


def _end(patience: float) -> None:
    print(
        f'mmjax: nothing was done for {patience:g} seconds; this is where every thread is, and the end (the same '
        'command goes on from the last checkpoint)',
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
    children = _children()
    for number in (signal.SIGABRT, signal.SIGKILL):  # the first prints, the second also ends what is stopped
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        time.sleep(SETTLES)
    os._exit(1)


def _children() -> list[int]:
    """The processes that this one has started, and those that they have."""
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]
