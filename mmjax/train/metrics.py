"""What a run writes: metrics.jsonl (the truth, bitwise repeatable), timing.jsonl, TensorBoard, and lines to read."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.errors import FULL, UserError
from mmjax.failpoints import failpoint
from mmjax.storage import AnyPath, Spool, absolute, write_bytes
from mmjax.train.board import Board

BAD_RECORDS = 'bad_records.jsonl'


def read_rows(path: AnyPath) -> list[dict[str, Any]]:
    """The rows of a JSONL file; a last line that a killed process left unfinished is dropped."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def finite(value: int | float) -> int | float | str:
    """A number as JSON can hold it: NaN and infinities as words."""
    return value if math.isfinite(value) else str(value)


def rounded(value: float, *, digits: int = 6) -> float:
    """To so many significant digits, for files that are kept in a repository."""
    return float(f'{value:.{digits}g}')


class JsonLines:
    """Rows appended to a file. Opening it drops the rows after `step`: a resumed run writes them again, equal.

    Where the disk is full, rows wait in memory until it is not; the file holds whole rows alone.

    known: what the rows of that step hold already.
    """

    def __init__(self, path: AnyPath, *, step: int):
        kept = [row for row in read_rows(path) if row['step'] <= step]
        self.known = {name for row in kept if row['step'] == step for name in row}
        write_bytes(path, ''.join(json.dumps(row) + '\n' for row in kept).encode())
        self._path, self._file = path, path.open('ab', buffering=0)
        self._end, self._waiting, self._full = self._file.tell(), b'', False

    def write(self, row: Mapping[str, Any]) -> None:
        told = {name: finite(value) if isinstance(value, float) else value for name, value in row.items()}
        self._waiting += (json.dumps(told) + '\n').encode()
        self._flush()

    def sync(self) -> bool:
        """Whether all rows are on disk: asked before a checkpoint, so that none is newer than the rows."""
        self._flush()
        if not self._waiting:
            os.fsync(self._file.fileno())
        return not self._waiting

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        try:
            failpoint('metrics/writing')
            left = self._waiting
            while left:  # a disk may take a part
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._file.truncate(self._end)
            if not self._full:
                print(f'mmjax: {self._path}: {error.strerror}; its rows wait', file=sys.stderr, flush=True)
            self._full = True
        else:
            self._end, self._waiting, self._full = self._end + len(self._waiting), b'', False


class Writers:
    """All places to which one process of a run writes."""

    def __init__(self, run: AnyPath, *, step: int, tensorboard: bool, wandb: bool, config: dict[str, Any]):
        self._spool = Spool(run, begun=('metrics.jsonl', 'timing.jsonl', BAD_RECORDS))
        local = self._spool.directory
        self._metrics = JsonLines(local / 'metrics.jsonl', step=step)
        self._timing = JsonLines(local / 'timing.jsonl', step=step)
        self._step, self._bad_file, self._bad = step, local / BAD_RECORDS, None
        self.bad_records = [row for row in read_rows(self._bad_file) if row['step'] <= step]
        if self._bad_file.exists():
            self._bad = JsonLines(self._bad_file, step=step)
        self._board, self._wandb = None, None
        if tensorboard:
            self._board = Board(local / 'tensorboard', step=step)
        if wandb:
            try:
                import wandb as wandb_module  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise UserError(
                    'log.wandb: wandb is not installed; install the extra `wandb`, or set log.wandb=False'
                ) from error
            # The same directory is the same run; runs of the same name elsewhere are not.
            identity = f'{run.name}-{hashlib.sha256(absolute(run).encode()).hexdigest()[:8]}'
            self._wandb = wandb_module.init(dir=str(local), name=run.name, config=config, resume='allow', id=identity)

    @property
    def known(self) -> set[str]:
        """The names that the rows of the step that is gone on from hold already."""
        return self._metrics.known

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics.write({'step': step, **values})
        self._mirror(step, values)

    def timing(self, step: int, values: Mapping[str, float]) -> None:
        self._timing.write({'step': step, **values})
        self._mirror(step, {f'timing/{name}': value for name, value in values.items()})

    def bad(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Names examples that could not be used, each with the `step` that met it. The file begins with the first."""
        self._bad = self._bad or JsonLines(self._bad_file, step=self._step)
        for row in rows:
            self._bad.write(row)
        self.bad_records += [dict(row) for row in rows]

    def _mirror(self, step: int, values: Mapping[str, float]) -> None:
        if self._board:
            for name, value in values.items():
                self._board.add(name, value, step)
        if self._wandb:
            self._wandb.log(dict(values), step=step)

    def sync(self) -> bool:
        """Whether all rows are where the run is."""
        whole = self._metrics.sync() and (self._bad is None or self._bad.sync())
        if self._board:
            self._board.flush()
        self._spool.sync()
        return whole

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()
        if self._bad:
            self._bad.close()
        if self._board:
            self._board.close()
        self._spool.close()
        if self._wandb:
            self._wandb.finish()


class Progress:
    """A bar on a terminal, plain lines elsewhere: loss, examples a second, time left."""

    SECONDS_BETWEEN_LINES = 15

    def __init__(self, *, start: int, steps: int, quiet: bool = False):
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(initial=start, total=steps, unit='step', dynamic_ncols=True, disable=quiet or not terminal)
        self._quiet, self._lines = quiet, not quiet and not terminal
        self._steps, self._last = steps, -math.inf

    def show(self, step: int, *, loss: float, rate: float, batch_size: int) -> None:
        """rate: examples a second."""
        left = (self._steps - step) * batch_size / rate if rate else math.inf
        if self._lines and (time.monotonic() - self._last > self.SECONDS_BETWEEN_LINES or step == self._steps):
            self._last = time.monotonic()
            self.say(f'step {step}/{self._steps}  loss {loss:.4f}  {rate:.0f} examples/s  {left:.0f} s left')
        self._bar.set_postfix_str(f'loss {loss:.4f}, {rate:.0f} examples/s', refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._lines:
            print(line, file=sys.stderr, flush=True)
        elif not self._quiet:
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
