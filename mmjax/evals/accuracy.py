"""Classification accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from mmjax.errors import UserError, nearest
from mmjax.evals.base import Columns, Evaluator


@dataclass(frozen=True)
class Accuracy(Evaluator):
    """Share of examples whose largest logit is the target's, and the mean cross-entropy in nats.

    output: name of the logits [b c]; target: field of the class ids [b]; by: a field of class ids by which the accuracy
    is also given apart ('' for none), as `accuracy/NAME`.
    """

    output: str = 'answer'
    target: str = 'answer'
    by: str = ''

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        field = 'field of the data'
        for name, where, there in (
            (self.output, 'output of the model', outputs),
            (self.target, field, batch),
            (self.by, field, batch),
        ):
            if name and name not in there:
                raise UserError(f"accuracy: no {where} '{name}'{nearest(name, there)} (there are {sorted(there)})")
        logs, target = log_softmax(outputs[self.output].astype(np.float64), axis=-1), batch[self.target]
        columns = {
            'predicted': logs.argmax(axis=-1).astype(np.int32),
            'probability': np.exp(logs.max(axis=-1)).astype(np.float32),
            'target': target,
            'loss': -np.take_along_axis(logs, target[:, None], axis=-1)[:, 0].astype(np.float32),
        }
        return columns | ({'by': batch[self.by]} if self.by else {})

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        correct = columns['predicted'] == columns['target']
        scores = {'accuracy': float(correct.mean()), 'loss': float(columns['loss'].astype(np.float64).mean())}
        for group in np.unique(columns['by']) if self.by else ():
            name = labels[self.by][group] if self.by in labels else f'{self.by}={group}'
            scores[f'accuracy/{name}'] = float(correct[columns['by'] == group].mean())
        return scores
