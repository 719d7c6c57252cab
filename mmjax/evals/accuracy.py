"""Classification accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, logsumexp

from mmjax.errors import UserError, check_field, check_output
from mmjax.evals.base import Columns, Evaluator


@dataclass(frozen=True)
class Accuracy(Evaluator):
    """Share of examples whose largest logit is the target's, and the mean cross-entropy in nats.

    output: name of the logits [b c]; target: field of the class ids [b]; by: a field of class ids by which the accuracy
    is also given apart ('' for none), as `accuracy/NAME`. Examples without the target (`TARGET/present`) are left out.
    """

    output: str = 'answer'
    target: str = 'answer'
    by: str = ''

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        for name in (self.target, self.by):
            if name:
                check_field(name, batch, asker='accuracy')
        logs, target = self.log_probabilities(outputs), batch[self.target]
        columns = {
            'predicted': logs.argmax(axis=-1).astype(np.int32),
            'probability': np.exp(logs.max(axis=-1)).astype(np.float32),
            'target': target,
            'loss': -np.take_along_axis(logs, target[:, None], axis=-1)[:, 0].astype(np.float32),
        }
        present = f'{self.target}/present'
        columns |= {'present': batch[present]} if present in batch else {}
        return columns | ({'by': batch[self.by]} if self.by else {})

    def log_probabilities(self, outputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, 'b c']:
        """Of each class, from the logits."""
        check_output(self.output, outputs, asker='accuracy')
        return log_softmax(outputs[self.output].astype(np.float64), axis=-1)

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        if 'present' in columns:
            columns = {name: column[columns['present']] for name, column in columns.items()}
        correct = columns['predicted'] == columns['target']
        scores = {'accuracy': float(correct.mean()), 'loss': float(columns['loss'].astype(np.float64).mean())}
        for group in np.unique(columns['by']) if self.by else ():
            name = labels[self.by][group] if self.by in labels else f'{self.by}={group}'
            scores[f'accuracy/{name}'] = float(correct[columns['by'] == group].mean())
        return scores


@dataclass(frozen=True)
class EnsembleAccuracy(Accuracy):
    """The accuracy of the mean of several outputs' probabilities; outputs: their names, each logits [b c]."""

    outputs: tuple[str, ...] = ()

    @property
    def asks(self) -> tuple[str, ...]:
        return self.outputs

    def log_probabilities(self, outputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, 'b c']:
        if not self.outputs:
            raise UserError('ensemble_accuracy: name the outputs whose probabilities it averages')
        for name in self.outputs:
            check_output(name, outputs, asker='accuracy')
        logs = np.stack([log_softmax(outputs[name].astype(np.float64), axis=-1) for name in self.outputs])
        return logsumexp(logs, axis=0) - np.log(len(logs))
