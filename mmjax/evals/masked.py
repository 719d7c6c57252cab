"""What is guessed of masked tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from mmjax.errors import UserError, check_output
from mmjax.evals.base import Columns, Evaluator


@dataclass(frozen=True)
class MaskedAccuracy(Evaluator):
    """Share of the masked tokens whose largest logit is theirs, and their mean cross-entropy in nats.

    For an evaluation whose `view` masks. output: logits [b n v]; field: the masked modality. Beside it
    `accuracy_of_commonest`: what the split's commonest masked token would score.
    """

    output: str = 'text'
    field: str = 'text'

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        check_output(self.output, outputs, asker='masked_accuracy')
        if f'{self.field}/masked' not in batch:
            raise UserError(f"masked_accuracy: '{self.field}' is not masked; give the evaluation a view that masks it")
        logs = log_softmax(outputs[self.output].astype(np.float64), axis=-1)
        target, masked = batch[f'{self.field}/target'], batch[f'{self.field}/masked']
        loss = -np.take_along_axis(logs, target[..., None], axis=-1)[..., 0]
        return {
            'predicted': logs.argmax(axis=-1).astype(np.int32),
            'target': target,
            'masked': masked,
            'loss': loss.astype(np.float32),
        }

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        predicted, target, loss = (columns[name][columns['masked']] for name in ('predicted', 'target', 'loss'))
        if not len(target):
            return dict.fromkeys(
                ('accuracy', 'loss', 'accuracy_of_commonest'), float('nan')
            )  # of nothing there is no score
        return {
            'accuracy': float((predicted == target).mean()),
            'loss': float(loss.astype(np.float64).mean()),
            'accuracy_of_commonest': float(np.bincount(target).max() / len(target)),
        }
