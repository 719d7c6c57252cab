"""SIGTERM, which a scheduler sends before it takes a machine away: a run ends where its state is whole, and saved."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from mmjax.distributed.group import number_of
from mmjax.errors import Preempted

TAKES = 5.0  # seconds after which the main thread is held up by something that does not come back soon, as a compiler


class Preemption:
    """What a loop asks and tells so that a signal never hits it between two states.

    A process that trains alone is interrupted wherever it is, but not in a block that is `shielded`, whose end it
    waits for. In a group all end at the same step, on which JAX's preemption service agrees once any of them has the
    signal: between steps only.
    """

    def __init__(self):
        self.loses = False  # whether more has been computed than is on disk
        self._came, self._shields = False, 0
        self._taken = threading.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signal until the block ends. Elsewhere than in the main thread, where Python has none, does not."""
        if number_of()[1] > 1 or threading.current_thread() is not threading.main_thread():
            yield
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.signal(signal.SIGTERM, self._take)
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=[reading], daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            signal.signal(signal.SIGTERM, before)
            os.close(writing)  # which ends the thread

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """A block that is done as a whole; a signal that came meanwhile counts at its end."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._came and not self._shields:
            raise Preempted

    def due(self, step: int) -> bool:
        """In a group, at the end of each step: whether this is the one after which all end."""
        if number_of()[1] == 1:
            return False
        from jax.experimental import multihost_utils

        try:
            return multihost_utils.reached_preemption_sync_point(step)
        except RuntimeError:  # its service is switched off
            return False

    def _take(self, *_: object) -> None:
        """In the main thread, as soon as that runs Python."""
        self._taken.set()
        self._came = True
        if not self._shields:
            raise Preempted

    def _wait(self, reading: int) -> None:
        """Ends the process where the signal came and the main thread does not take it, if nothing is lost by it."""
        while number := os.read(reading, 1):
            if number[0] == signal.SIGTERM and not self._taken.wait(TAKES) and not self.loses:
                print('mmjax: told to end; nothing that is not saved has been done', file=sys.stderr, flush=True)
                os._exit(Preempted.CODE)
        os.close(reading)
