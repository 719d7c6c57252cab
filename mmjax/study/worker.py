"""Training the runs of one arm, and asking the trained models what the study wants to know."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.evals.accuracy import Accuracy
from mmjax.study.additive import Additive
from mmjax.study.explained import explained
from mmjax.study.ledger import packed
from mmjax.study.plan import Run
from mmjax.study.study import Study
from mmjax.train.lanes import Lane, Lanes
from mmjax.train.manifest import code_version
from mmjax.train.metrics import finite, rounded
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.score import score_all


class Worker:
    """Trains and examines runs, keeping the program of the last arm at hand. together: see `run_study`."""

    def __init__(self, study: Study, *, together: int = 1):
        self.study, self.together = study, together
        self._code = code_version()  # what was loaded: a later commit does not change this process
        self._program = ''
        self._lanes: Lanes | None = None
        self._additive: Additive | None = None

    def work(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """What the ledger keeps of runs of one program: they differ in seed and rate."""
        lanes = self._lanes_of(runs[0])
        started = time.monotonic()
        trained = lanes.train([run.experiment for run in runs])
        rows = [self._row(run, lane, lanes) for run, lane in zip(runs, trained, strict=True)]
        seconds = round((time.monotonic() - started) / len(runs), 1)
        return [row | {'seconds': seconds} | self._code for row in rows]

    def _lanes_of(self, run: Run) -> Lanes:
        if self._lanes is None or run.program != self._program:
            jax.clear_caches()
            experiment = run.experiment
            self._lanes = Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build())
            self._program, self._additive = run.program, None
        return self._lanes

    def _row(self, run: Run, lane: Lane, lanes: Lanes) -> dict[str, Any]:
        """A run that diverged counts with the score of its last finite state: it is never dropped."""
        results, columns = score_all(run.experiment, lane.params, lanes.scorer)
        row: dict[str, Any] = {
            'metrics': {name: finite(rounded(value)) for name, value in results.items() if not _of_a_probe(name)},
            'diverged': lane.diverged,
        }
        if run.phase == 'final':
            row['curve'] = {
                name: [finite(rounded(v)) for v in values.tolist()] for name, values in _curves(run, lane).items()
            }
            table = columns[self.study.primary_split]
            order = np.argsort(table['index'], kind='stable')
            correct = (table['predicted'] == table['target'])[order]
            row |= {'correct': packed(correct), 'examples': len(correct)}
            if self.study.explanation is not None and run.explained:
                row['explained'] = explained(self.study.explanation, run.experiment, lane.params)
            if run.projected:
                model, projection = self._projection(run)(lane.params)
                row['additive'] = {'model': packed(model), 'projection': packed(projection), 'examples': len(model)}
        return row

    def _projection(self, run: Run) -> Additive:
        if self._additive is None:
            evaluation = run.experiment.evals[self.study.primary_split]
            evaluator = evaluation.evaluator
            assert isinstance(evaluator, Accuracy)
            self._additive = Additive(
                run.experiment,
                evaluation.data,
                examples=run.projected,
                output=evaluator.output,
                target=evaluator.target,
            )
        return self._additive


def _curves(run: Run, lane: Lane) -> dict[str, np.ndarray]:
    """Loss and gradients of the modalities; of several objectives, such as one for each modality, the loss of each,
    without its scale.
    """
    objectives = run.experiment.objectives
    kept = {name: lane.curve[name] for name in ('loss', *(f'grad_norm/{m}' for m in run.experiment.model.inputs))}
    if len(objectives) > 1:
        kept |= {f'loss/{n}': lane.curve[f'loss/{n}'] / o.scale for n, o in objectives.items() if o.scale}
    return kept


def _of_a_probe(name: str) -> bool:
    """Whether it is a loss of a probe, which nothing reads."""
    return ':' in name and not name.endswith('/accuracy')
