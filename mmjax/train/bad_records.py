"""What a run's data could not give: counted by reason, named in RUN/bad_records.jsonl, and not too much of it.

Each process meets those of its rows; together they are put down, in the order of the stream, whenever rows are written
or a checkpoint is due. So the file is the same for any number of processes, and after a resume.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from mmjax.distributed.group import gathered, shared
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.train.metrics import BAD_RECORDS, Writers


class BadRecords:
    """Of one run. writers: of the process that has them. say: tells people."""

    def __init__(self, experiment: Experiment, writers: Writers | None, *, say: Callable[[str], None]):
        self._experiment, self._writers, self._say = experiment, writers, say
        self._here: list[dict[str, Any]] = []

    def meet(self, found: list[dict[str, Any]]) -> None:
        """What `train_batches` tells of a batch."""
        self._here += found

    def settle(self, step: int) -> dict[str, float]:
        """Puts down what was met up to this step. Returns the metric `bad_records`, how many so far, where there are.

        Raises:
            UserError: where there are too many, in all processes.
        """
        found = sorted((one for part in gathered(self._here) for one in part), key=lambda one: one['place'])
        self._here = []
        if found and self._writers:
            if not self._writers.bad_records:
                self._say(f'a bad example: {found[0]["told"]}; it counts for nothing, see {BAD_RECORDS}')
            self._writers.bad([self._row(one) for one in found])
        if found and (wrong := shared(lambda: self._too_many(step))):
            raise UserError(wrong)
        met = len(self._writers.bad_records) if self._writers else 0
        return {'bad_records': float(met)} if met else {}

    def summary(self) -> str:
        """The counts by reason; '' where nothing was bad."""
        met = Counter(row['reason'] for row in self._writers.bad_records) if self._writers else Counter()
        return ', '.join(f'{reason} {count}' for reason, count in met.most_common())

    def _row(self, one: dict[str, Any]) -> dict[str, Any]:
        sources = list(self._experiment.data.parts)
        name = {} if one['source'] is None else {'source': sources[one['source']]}
        step = one['place'] // self._experiment.batch_size + 1
        return {'step': step, **name, 'row': one['row'], 'reason': one['reason'], 'told': one['told'][:500]}

    def _too_many(self, step: int) -> str:
        """'' where what was met may be the share that is allowed: up to three standard deviations above it."""
        assert self._writers is not None
        seen, share = step * self._experiment.batch_size, self._experiment.bad_records
        met = len(self._writers.bad_records)
        if met <= seen * share + 3 * math.sqrt(seen * share * (1 - share)):
            return ''
        return (
            f'bad_records: of {seen} examples {met} could not be used ({self.summary()}), more than the share '
            f'{share:g} that is allowed; {BAD_RECORDS} of the run names them: mend the data, or raise bad_records'
        )
