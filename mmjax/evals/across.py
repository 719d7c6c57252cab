"""Retrieval of one kind of rows among another: a drawing in a style that training never saw by that in a known one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmjax.errors import UserError, check_field, check_output, nearest
from mmjax.evals.base import Columns, Evaluator
from mmjax.evals.retrieval import ranks_among, recall


@dataclass(frozen=True)
class RetrievalAcross(Evaluator):
    """Recall@k of rows of one class of the field `by` among those of another, by one embedding.

    output: name of the embedding [b d]. by: field of class ids [b]; queries, gallery: the names of two of its classes.
    group: field [b] of which equal values are right for each other. Ties and zero vectors: as for `Retrieval`. Metrics:
    `recall@K/QUERIES_to_GALLERY`, its interval and its chance level.

    Raises:
        UserError: on an output, a field or a class that is not there.
    """

    output: str = 'image'
    by: str = 'style'
    queries: str = ''
    gallery: str = ''
    group: str = ''
    ks: tuple[int, ...] = (1, 5, 10)

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        check_output(self.output, outputs, asker='retrieval_across')
        for name in (self.by, self.group):
            check_field(name, batch, asker='retrieval_across')
        return {'x': outputs[self.output].astype(np.float32), 'by': batch[self.by], 'group': batch[self.group]}

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        names = labels.get(self.by, ())
        sides = []
        for side in (self.queries, self.gallery):
            if side not in names:
                raise UserError(f"retrieval_across: {self.by} has no class '{side}'{nearest(side, names)} ({names})")
            chosen = columns['x'].any(axis=1) & (columns['by'] == names.index(side))
            sides.append((columns['x'][chosen], columns['group'][chosen]))
        (queries, asked), (gallery, held) = sides
        name = f'{self.queries}_to_{self.gallery}'
        ranks = ranks_among(queries, gallery, asked, held)
        return recall(ranks, asked=asked, held=held, ks=self.ks, name=name)
