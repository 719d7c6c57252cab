"""What can be wrong with a config and is told before anything trains: classes, objectives, evaluations.

All by shapes: nothing is compiled, and of the data one batch of each evaluation is read.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from mmjax.data import eval_batches
from mmjax.errors import UserError
from mmjax.evals.base import PairEvaluator, asked
from mmjax.experiment import Evaluation, Experiment
from mmjax.objectives.next_token import NextToken
from mmjax.train.evaluate import predict_and_keep
from mmjax.train.passes import Views, apply_model, beside_modalities
from mmjax.train.passes import run as run_views
from mmjax.train.step import weighted
from mmjax.train.texts import read_texts
from mmjax.types import Batch, Deferred, Outputs, Shapes


def check_classes(experiment: Experiment) -> None:
    """Raises UserError where a decoder has another number of classes than the field that it is to predict."""
    labels = experiment.data.open().labels
    for name, objective in experiment.objectives.items():
        output, target = str(getattr(objective, 'output', '')), str(getattr(objective, 'target', ''))
        classes = getattr(experiment.model.decoders.get(output), 'classes', None)
        if classes is not None and target in labels and classes != (there := len(labels[target])):
            raise UserError(
                f'model.decoders.{output}.classes is {classes}, but {target}, which objective {name} lets it predict, '
                f'has {there} classes; set it to {there}'
            )


def check_objectives(experiment: Experiment, params: Any, batch: Shapes) -> None:
    """Raises UserError where an objective or a view asks for what the model or the data do not have."""

    def judge(params: Any, batch: Batch, key: jax.Array) -> Any:
        views = Views.of(experiment)
        seen = [view(batch, key) for view in views.plain]
        outputs, seen = run_views(experiment, params, views, seen, dropout=key, mining=key)
        _check_deferred(experiment, outputs[0])
        return weighted(experiment, views, outputs, seen, {})

    jax.eval_shape(judge, params, dict(batch), jax.random.key(0))


def _check_deferred(experiment: Experiment, outputs: Outputs) -> None:
    deferred = [name for name, x in outputs.items() if isinstance(x, Deferred)]
    for name, objective in experiment.objectives.items():
        if getattr(objective, 'output', '') in deferred and not isinstance(objective, NextToken):
            raise UserError(
                f'objectives.{name}: {type(objective).__name__} reads all logits at once, which model.decoders.'
                f'{objective.output} does not give; make it token_logits, or the objective next_token'  # pyright: ignore
            )
    if deferred and experiment.optim.accumulate > 1 and any(x.couples_rows for x in experiment.objectives.values()):
        raise UserError(
            f'model.decoders.{deferred[0]}: deferred logits, and an objective that compares rows over '
            f'optim.accumulate={experiment.optim.accumulate} parts; make it token_logits, or accumulate 1'
        )


def check_alone(experiment: Experiment, params: Any, batch: Shapes) -> None:
    """Raises UserError where the model cannot read an example of packed rows by itself, as evaluations show it:
    positions begin anew with each, so whether there are enough of them does not show in a row.
    """
    if not any(key.endswith('/segments') for key in batch):
        return
    for name, part in experiment.data.parts.items():
        (example,) = part.open().examples([0], seed=0)
        alone = {key: np.asarray(x)[None] for key, x in example.items()}
        try:
            jax.eval_shape(functools.partial(apply_model, experiment, train=False), params, alone)
        except UserError as error:
            raise UserError(f'{f"of the source {name}: " if name else ""}{error}') from error


def check_evaluations(experiment: Experiment, params: Any) -> None:
    """Raises UserError where an evaluation asks for what the model or its own data do not have. params: by shape."""
    for name, evaluation in experiment.evals.items():
        try:
            _check_evaluation(experiment, evaluation, params)
        except UserError as error:
            raise UserError(f'evals.{name}: {error}') from error


def _check_evaluation(experiment: Experiment, evaluation: Evaluation, params: Any) -> None:
    evaluator = evaluation.evaluator
    for batch in eval_batches(dataclasses.replace(evaluation.data, workers=0), batch_size=1):
        if isinstance(evaluator, PairEvaluator):
            answer = functools.partial(apply_model, experiment, train=False)
            outputs = _zeros(jax.eval_shape(answer, params, dict(batch)))
            evaluator.of_pairs(asked(outputs, evaluator.asks))
            evaluator.predictions({}, beside_modalities(experiment, batch))
        else:
            seen = jax.eval_shape(evaluation.view, dict(batch), jax.random.key(0))
            ask = functools.partial(predict_and_keep, experiment=experiment, evaluation=evaluation)
            outputs, kept = map(_zeros, jax.eval_shape(ask, params, seen))
            evaluator.predictions(read_texts(outputs, evaluation.predictor, evaluation.data), kept)
        return  # one batch tells all


def _zeros(shapes: Any) -> dict[str, np.ndarray]:
    return {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()}
