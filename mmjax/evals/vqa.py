"""Visual question answering, scored as its challenges do."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmjax.errors import check_field, check_output
from mmjax.evals.base import Columns, Evaluator


@dataclass(frozen=True)
class VqaAccuracy(Evaluator):
    """The official VQA accuracy (Antol et al. 2015, section 3) of the answer with the largest logit.

    output: name of the logits [b c]. target: of the fields `TARGET/candidates` int [b k], class ids with -1 for none,
    and `TARGET/scores` [b k], the official accuracy of each; any other answer is worth 0. The data set has computed
    them from what ten people said (mmjax/data/vqa_answers.py). by: a field of class ids by which the accuracy is also
    given apart ('' for none), as `accuracy/NAME`.

    `best` is what a perfect model would reach: people disagree, and not all of their answers are classes.
    """

    output: str = 'answer'
    target: str = 'answer'
    by: str = ''

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        candidates, scores = f'{self.target}/candidates', f'{self.target}/scores'
        check_output(self.output, outputs, asker='vqa_accuracy')
        for name in (candidates, scores, self.by):
            if name:
                check_field(name, batch, asker='vqa_accuracy')
        logits = outputs[self.output]
        predicted = logits.argmax(axis=-1).astype(np.int32)
        given = batch[candidates] == predicted[:, None]
        columns = {
            'predicted': predicted,
            'accuracy': np.where(given, batch[scores], 0).max(axis=-1).astype(np.float32),
            'best': batch[scores].max(axis=-1).astype(np.float32),
        }
        return columns | ({'by': batch[self.by]} if self.by else {})

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        accuracy = columns['accuracy'].astype(np.float64)
        scores = {'accuracy': float(accuracy.mean()), 'best': float(columns['best'].astype(np.float64).mean())}
        for group in np.unique(columns['by']) if self.by else ():
            name = labels[self.by][group] if self.by in labels else f'{self.by}={group}'
            scores[f'accuracy/{name}'] = float(accuracy[columns['by'] == group].mean())
        return scores
