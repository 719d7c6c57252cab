"""Whether a pair matches: the area under the curve, and retrieval by the score of a match."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from mmjax.errors import UserError, check_field, check_output
from mmjax.evals.accuracy import Accuracy
from mmjax.evals.base import Columns, PairEvaluator
from mmjax.evals.intervals import auc_interval
from mmjax.evals.retrieval import ranks_of, recall


@dataclass(frozen=True)
class MatchAuc(Accuracy):
    """`auc`: how likely an example of class 1 has a higher score than one of class 0, ties counted half (the area under
    the ROC curve; 0.5 by chance, whatever the share of the classes), its 95 % interval from `auc_low` to `auc_high`
    (`auc_interval`), beside accuracy and loss.

    output: logits of two classes [b 2]; target: 0 or 1, such as the view `Matching` adds. Examples without it
    (`target/present`) are left out. group: a field [b] of which equal values are no independent evidence; '': each
    example is.
    """

    output: str = 'match'
    target: str = 'match'
    group: str = field(default='', metadata={'old': ''})

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        columns = super().predictions(outputs, batch)
        present = batch.get(f'{self.target}/present', np.ones(len(batch[self.target]), bool))
        if self.group:
            check_field(self.group, batch, asker='match_auc')
            columns |= {'group': batch[self.group]}
        return columns | {'score': odds(outputs[self.output], asker='match_auc'), 'present': present}

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        columns = {name: column[columns['present']] for name, column in columns.items()}
        if not len(columns['target']):
            return {'accuracy': 0.0, 'loss': 0.0, 'auc': 0.5, 'auc_low': 0.0, 'auc_high': 1.0}
        score, positive = columns['score'], columns['target'] == 1
        low, high = auc_interval(score, positive, columns.get('group', np.arange(len(score))))
        return super().metrics(columns, labels) | {'auc': auc(score, positive), 'auc_low': low, 'auc_high': high}


@dataclass(frozen=True)
class MatchRetrieval(PairEvaluator):
    """Recall@k both ways, candidates in the order of their match score: what `Retrieval` asks of two towers is asked of
    a model that reads both at once. Every pair of the split is scored.

    output: logits of two classes [b 2], 1 a match. group, ks, metrics: as in `Retrieval`; examples that lack one of the
    two modalities are left out.
    """

    output: str = 'match'
    group: str = ''
    ks: tuple[int, ...] = (1, 5, 10)

    def of_pairs(self, outputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, 'b']:
        check_output(self.output, outputs, asker='match_retrieval')
        return odds(outputs[self.output], asker='match_retrieval')

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        if self.group:
            check_field(self.group, batch, asker='match_retrieval')
        return {'group': batch[self.group]} if self.group else {}

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        there = columns['present']
        scores = columns['scores'][there][:, there]
        group = columns['group'][there] if self.group else np.arange(len(scores))
        right = group[:, None] == group[None, :]
        a, b = self.modalities
        both = ((f'{a}_to_{b}', scores), (f'{b}_to_{a}', scores.T))
        found = {}
        for name, ordered in both if len(scores) else ():
            found |= recall(ranks_of(ordered, right), asked=group, held=group, ks=self.ks, name=name)
        return found


def odds(logits: Float[np.ndarray, 'b c'], *, asker: str) -> Float[np.ndarray, 'b']:
    """log p / (1 - p) of class 1 of two."""
    if logits.shape[-1] != 2:
        raise UserError(f'{asker}: logits of {logits.shape[-1]} classes; it takes two, and 1 is a match')
    return (logits[:, 1] - logits[:, 0]).astype(np.float32)


def auc(scores: Float[np.ndarray, 'n'], positive: Bool[np.ndarray, 'n']) -> float:
    """From the sum of the ranks of the positives (Mann & Whitney 1947); 0.5 where either class is missing, or for a
    model that diverged.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m or np.isnan(scores).any():
        return 0.5
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))
