"""Scores a split with a set of parameters."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax.data import eval_batches, open_data
from mmjax.evals.base import Columns, PairEvaluator, asked
from mmjax.experiment import Evaluation, Experiment
from mmjax.generate.base import Predictor
from mmjax.sharding import place_batch, rows_here
from mmjax.train.pairs import PairScorer
from mmjax.train.passes import beside_modalities, cast
from mmjax.train.texts import read_texts
from mmjax.types import Batch, Outputs
from mmjax.views.base import CLEAN, View


class Scorer:
    """Evaluates an experiment's splits; compiles each way to ask the model, and what is asked, once for all of them."""

    def __init__(self, experiment: Experiment, mesh: jax.sharding.Mesh, *, beat: Callable[[], None] = lambda: None):
        """beat: called after each batch."""
        self._experiment, self._mesh, self._beat = experiment, mesh, beat
        self._compiled: dict[tuple[Predictor, Any], Callable[[Any, Batch], tuple[Outputs, Batch]]] = {}
        self._pairs = PairScorer(experiment, mesh)

    def score(self, evaluation: Evaluation, params: Any) -> tuple[dict[str, float], Columns]:
        """Returns the metrics and, per example of the split, the columns that the evaluator keeps, with `index`."""
        evaluator, labels = evaluation.evaluator, open_data(evaluation.data).labels
        size = self._experiment.batch_size
        batches = self._beating(eval_batches(evaluation.data, batch_size=size, rows=rows_here(size, self._mesh)))
        if isinstance(evaluator, PairEvaluator):
            columns = self._pairs.columns(evaluator, batches, params)
            return evaluator.metrics(columns, labels), columns
        parts, key, predictor = [], jax.random.key(0), evaluation.predictor
        asking = predictor, evaluator.asks
        if asking not in self._compiled:
            ask = functools.partial(predict_and_keep, experiment=self._experiment, evaluation=evaluation)
            self._compiled[asking] = jax.jit(ask)
        for number, batch in enumerate(batches):
            with jax.set_mesh(self._mesh):
                placed = place_batch(batch, self._mesh)
                if evaluation.view != CLEAN:
                    placed = _seen(placed, jax.random.fold_in(key, number), view=evaluation.view)
                outputs, kept = self._compiled[asking](params, placed)
            outputs, kept = multihost_utils.process_allgather((outputs, kept), tiled=True)
            outputs = read_texts(outputs, predictor, evaluation.data)
            columns = evaluator.predictions(outputs, kept) | {'index': kept['index']}
            parts.append({name: column[kept['weight'] > 0] for name, column in columns.items()})
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return evaluator.metrics(columns, labels), columns

    def _beating(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._beat()
            yield batch


@functools.partial(jax.jit, static_argnames='view')
def _seen(batch: Batch, key: jax.Array, *, view: View) -> Batch:
    """A view of its own, so that predicting is compiled once for all of them. Its draws are the same in every run."""
    return view(batch, key)


def predict_and_keep(
    params: Any, batch: Batch, *, experiment: Experiment, evaluation: Evaluation
) -> tuple[Outputs, Batch]:
    """The outputs that are asked for, and what may be asked of the batch: everything but the modalities themselves."""
    kept = beside_modalities(experiment, batch)
    outputs = evaluation.predictor(experiment.model, cast(params, experiment.precision), batch)
    return asked(outputs, evaluation.evaluator.asks), kept
