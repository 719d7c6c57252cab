"""What the loop knows of steps that were skipped: counted on the host, from numbers that are there already.

The device runs behind the host. To ask it for each step's `skipped` at once would make it wait, so the loop asks for
those of `LAG` steps before, or of all where it waits anyway, as for a row of metrics or a checkpoint. Nothing depends
on when it asked: what is gone back over is decided by the steps, and so is what is a spike.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mmjax.errors import UserError
from mmjax.guard import Guard
from mmjax.train.step import Metrics

LAG = 2  # steps


class Step(NamedTuple):
    """One that has been started. norm: of its gradient."""

    number: int
    skipped: jax.Array
    loss: jax.Array
    norm: jax.Array


class Usual:
    """What is usual of the norm of the gradient: its geometric mean over some `MEMORY` steps, the newest weighing most.
    Norms fall fast while a model begins to learn: over a longer memory a spike would not stand out from what was.

    For the first `WARM` steps nothing is a spike. A spike counts as no more than the limit: one changes little, and
    norms that stay high are usual after a while.
    """

    MEMORY, WARM = 10, 50

    def __init__(self, spike: float, *, mean: float = 0.0, steps: int = 0):
        """mean: of the logarithms so far. steps: how many."""
        self._spike, self.mean, self.steps = spike, mean, steps

    @property
    def limit(self) -> float:
        """The largest norm that is none."""
        return math.exp(self.mean) * self._spike if self.steps >= self.WARM else math.inf

    def take(self, norm: float) -> None:
        if not (math.isfinite(norm) and norm > 0):
            return
        self.steps += 1
        self.mean += (math.log(min(norm, self.limit)) - self.mean) / min(self.steps, self.MEMORY)


class Watch:
    """Of a run with a guard. Its numbers are saved beside each checkpoint (`told`), so that a run that is resumed
    counts and judges as one that was not interrupted.

    skipped: steps that left nothing in the state. rollbacks: how often it went back. first, in_a_row: the first of the
    steps that were skipped last, and how many they are; 0: the last step was not skipped.
    """

    def __init__(self, guard: Guard, told: Mapping[str, Any] | None = None):
        """told: what was saved; None: nothing, as by a run from before there were guards."""
        self._guard = guard
        self._unread: deque[Step] = deque()
        self._norms: deque[tuple[int, float]] = deque()  # read, and not yet usual
        self._lines: list[str] = []
        self.rollbacks = 0
        self._set(told or {})

    def _set(self, told: Mapping[str, Any]) -> None:
        self.skipped, self.rollbacks = told.get('skipped', 0), max(self.rollbacks, told.get('rollbacks', 0))
        self.first, self.in_a_row = told.get('first', 0), told.get('in_a_row', 0)
        self._usual = Usual(self._guard.spike, **told.get('usual', {}))
        self._norms = deque((step, math.nan if norm is None else norm) for step, norm in told.get('norms', ()))

    @property
    def last(self) -> int:
        """The last of the steps in a row."""
        return self.first + self.in_a_row - 1

    def limits(self, step: int) -> tuple[np.float32, ...]:
        """What the step is given beside state and batch: the largest norm that is no spike, by the norms of those up to
        `LAG` steps before; nothing where none is looked for.
        """
        if not self._guard.spike:
            return ()
        self._read(step - LAG)
        while self._norms and self._norms[0][0] < step - LAG:
            self._usual.take(self._norms.popleft()[1])
        return (np.float32(self._usual.limit),)

    def add(self, step: int, metrics: Metrics) -> None:
        """What a step gave, once it has been started."""
        if self._guard.skip:
            self._unread.append(Step(step, metrics['skipped'], metrics['loss'], metrics['grad_norm']))

    def fallen(self, step: int, *, wait: bool) -> list[str] | None:
        """Lines that tell of steps that were skipped; None: so many in a row that the state has to go back. To be
        asked after `step`; in a group by all. wait: for its numbers too.
        """
        self._read(step + 1 if wait else step - LAG)
        lines, self._lines = self._lines, []
        return None if self.in_a_row >= self._guard.in_a_row else lines

    def _read(self, before: int) -> None:
        while self._unread and self._unread[0].number < before and self.in_a_row < self._guard.in_a_row:
            step = self._unread.popleft()
            if self._guard.spike:
                self._norms.append((step.number, float(np.asarray(step.norm))))
            if not float(np.asarray(step.skipped)):
                self.in_a_row = 0
                continue
            self.first = self.first if self.in_a_row else step.number
            self.in_a_row, self.skipped = self.in_a_row + 1, self.skipped + 1
            loss, norm = float(np.asarray(step.loss)), float(np.asarray(step.norm))
            self._lines.append(f'step {step.number} is skipped: loss {loss:.4g}, norm of the gradient {norm:.4g}')

    def give_up(self) -> None:
        """Raises UserError where it has gone back as often as it may."""
        if self.rollbacks >= self._guard.rollbacks:
            raise UserError(
                f'{self.in_a_row} steps in a row, up to {self.last}, were skipped, as their losses or gradients are '
                f'not finite{" or leap" if self._guard.spike else ""}, after going back {self.rollbacks} times '
                f'(guard.in_a_row, guard.rollbacks); train at a lower rate (optim.schedule), or look at the data'
            )

    def went_back(self, to: int, told: Mapping[str, Any] | None) -> None:
        """The state is that of step `to`, with which `told` was saved; steps up to `last` are left out."""
        last, told = self.last, told or {}
        self._unread.clear()
        self._set({**told, 'skipped': told.get('skipped', 0) + last - to, 'first': 0, 'in_a_row': 0})
        self.rollbacks += 1

    def told(self) -> dict[str, Any]:
        """All of this, as JSON holds it; once everything was read."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ('skipped', 'rollbacks', 'first', 'in_a_row')}
        if self._guard.spike:
            found['usual'] = {'mean': self._usual.mean, 'steps': self._usual.steps}
            found['norms'] = [[step, norm if math.isfinite(norm) else None] for step, norm in self._norms]
        return found
