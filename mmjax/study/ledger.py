"""What a study has done: one JSON line a finished run, which several processes may append to."""

import base64
import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import FULL, UserError
from mmjax.failpoints import failpoint
from mmjax.study.study import Study
from mmjax.train.metrics import read_rows

PATIENCE = 600.0  # seconds that a finished run waits for a disk that is full
PAUSE = 1.0  # between tries


class Ledger:
    """DIRECTORY/ledger.jsonl. The first line names the study; each other one is a run, by `Run.key`.

    Raises:
        UserError: where the file belongs to another study.
    """

    def __init__(self, directory: Path, study: Study):
        self._path, self._claims = directory / 'ledger.jsonl', directory / 'claims'
        own = {'study': study.name, 'primary': study.primary}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with self._alone('a+') as file:
                file.seek(0)
                if '\n' not in file.read():  # nothing yet, or a first line that a kill cut off
                    file.truncate(0)
                    file.write(json.dumps(own) + '\n')
        except OSError as error:
            raise UserError(f'--workdir {directory}: {error.strerror}') from error
        found = (read_rows(self._path) or [{}])[0]
        for what, value in own.items():
            if found.get(what) != value:
                told = f'is of the {what} {found.get(what)!r}, not of {value!r}'
                raise UserError(f'{self._path}: {told}; name another --workdir')

    def rows(self) -> dict[str, dict[str, Any]]:
        """Finished runs by their keys; the line that a killed process left unfinished is no run."""
        return {row['run']: row for row in read_rows(self._path) if 'run' in row}

    def add(self, row: dict[str, Any]) -> None:
        """Appends a run. A line that a killed process left unfinished is cut off first.

        Raises:
            UserError: where the disk stays full for `PATIENCE` seconds; what was finished before is there.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self._append(row)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if time.monotonic() > until:
                    raise UserError(f'{self._path}: {error.strerror}; make room, and give the same command') from error
                print(f'mmjax: {self._path}: {error.strerror}; trying again', file=sys.stderr, flush=True)
                time.sleep(PAUSE)

    def _append(self, row: dict[str, Any]) -> None:
        with self._alone('rb+') as file:
            end = file.read().rfind(b'\n') + 1
            file.seek(end)
            file.truncate()
            failpoint('ledger/writing')
            file.write(json.dumps(row).encode() + b'\n')
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Whether this process may do a run: False where another one is at it. A dead one's claim is void."""
        self._claims.mkdir(exist_ok=True)
        with (self._claims / run).open('a') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextlib.contextmanager
    def _alone(self, mode: str) -> Iterator[Any]:
        with self._path.open(mode) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


def packed(correct: np.ndarray) -> str:
    """bool [examples] as text, eight of them a byte."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpacked(text: str, examples: int) -> np.ndarray:
    """Undoes `packed`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=examples).astype(bool)
