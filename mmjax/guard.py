"""What a run does where its numbers go wrong."""

from dataclasses import dataclass

from mmjax.errors import UserError

VERIFY = ('', 'saves', 'steps')


@dataclass(frozen=True)
class Guard:
    """A step whose loss or gradient is not finite changes nothing: parameters, moments and moving average stay, bit for
    bit, only the step is counted. Steps that are clean have the bits that they have without a guard (shown on CPUs, see
    `train.guarded.chosen`).

    skip: whether; else such numbers go into the state. in_a_row: after so many skipped steps one after the other the
    state goes back to the newest checkpoint from before them, and goes on with the batches behind them: those between
    are left out, as training again on the same ones would end at the same numbers. rollbacks: how often in a run,
    before it ends with an error. spike: a gradient whose norm is so many times what is usual is skipped too; 0: none
    is. What is usual follows the run (`train.watch.Usual`). verify: when bits that changed in memory are looked for
    (`train.replicas`): 'saves', before each checkpoint; 'steps', after and before each step too, for which the
    device reads the state twice more and the loop waits for it; '', never.

    The rate follows the schedule by the updates that were made. A row of metrics tells in `skipped` how many steps so
    far have left nothing in the state, those that were gone back over among them; rows of these stay.
    """

    skip: bool = True
    in_a_row: int = 10
    rollbacks: int = 3
    spike: float = 0.0
    verify: str = 'saves'

    def check(self) -> None:
        """Raises UserError on values that mean nothing."""
        if self.in_a_row < 1 or self.rollbacks < 0:
            raise UserError(f'guard.in_a_row {self.in_a_row} and guard.rollbacks {self.rollbacks}: at least 1 and 0')
        if self.spike and not self.spike > 1:
            raise UserError(f'guard.spike: {self.spike} times what is usual is no spike; above 1, or 0 for none')
        if self.spike and not self.skip:
            raise UserError(f'guard.spike: {self.spike}, but guard.skip is off; spikes are skipped')
        if self.verify not in VERIFY:
            raise UserError(f"guard.verify: unknown '{self.verify}' (there are {VERIFY})")
