"""TensorBoard's files, which are a mirror: a run does without them where they cannot be written."""

import sys
from pathlib import Path
from typing import Any

QUEUE = 1000  # rows that its thread may be behind; beyond that a run would wait for it


class Board:
    """Scalars for TensorBoard, in DIRECTORY, from a step on."""

    def __init__(self, directory: Path, *, step: int):
        from tensorboardX import SummaryWriter

        purge = step + 1 if step else None
        self._writer: Any = SummaryWriter(str(directory), purge_step=purge, max_queue=QUEUE)

    def add(self, name: str, value: float, step: int) -> None:
        if self._works():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        if self._works():
            try:
                self._writer.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        if self._works():
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)

    def _works(self) -> bool:
        """Its thread dies of a disk that is full, and who hands it more waits for ever."""
        if self._writer is not None and not self._writer.file_writer.event_writer._worker.is_alive():
            self._give_up('its thread has ended')
        return self._writer is not None

    def _give_up(self, why: object) -> None:
        self._writer = None
        print(f'mmjax: no more rows for TensorBoard ({why}); metrics.jsonl has them', file=sys.stderr, flush=True)
