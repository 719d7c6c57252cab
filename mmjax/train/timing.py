"""How fast a run goes: examples, tokens and model FLOPs a second, and the share of time spent waiting for data."""

import time


class Stopwatch:
    """Measures between two readings, without the time that was spent on evaluation and saving.

    work: per step: `examples`, `tokens` (all positions that the encoders give, padding included) and `flops` (of the
    model, see flops.py). peak_flops: of all devices together, None where it is not known; then there is no `mfu`.
    """

    def __init__(self, *, work: dict[str, float], peak_flops: float | None):
        self._work, self._peak = work, peak_flops
        self.restart(0)

    def restart(self, step: int) -> None:
        self._step, self._since, self._waited, self._paused = step, time.perf_counter(), 0.0, 0.0

    def waited(self, seconds: float) -> None:
        """The loop had no batch for so long."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """The loop did something else than training for so long."""
        self._paused += seconds

    def read(self, step: int) -> dict[str, float]:
        """Rates since the last reading; {} where no step has passed. Starts the next interval."""
        steps, seconds = step - self._step, time.perf_counter() - self._since - self._paused
        rates = {}
        if steps > 0 and seconds > 0:
            rates = {f'{name}_per_second': amount * steps / seconds for name, amount in self._work.items()}
            rates |= {'seconds_per_step': seconds / steps, 'data_wait': self._waited / seconds}
            if self._peak:
                rates['mfu'] = rates['flops_per_second'] / self._peak
        self.restart(step)
        return rates
