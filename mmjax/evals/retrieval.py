"""Retrieval: who of all the others is nearest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mmjax.errors import UserError, check_field, check_output
from mmjax.evals.base import Columns, Evaluator
from mmjax.evals.intervals import share_interval

AT_ONCE = 1024  # queries


@dataclass(frozen=True)
class Retrieval(Evaluator):
    """Recall@k both ways: the share of queries of one kind with a right answer among the k nearest of the other.

    a, b: names of embeddings [b d], such as those of `Embedded`; nearness is their product. group: a field [b] of which
    equal values are right for each other, such as the names of one thing; '': a row's own partner alone is right. Both
    galleries are the rows of the split: an image with five captions, in five rows, stands there five times (see
    `CaptionRetrieval`). ks: how far down it looks.

    Candidates with the same score as the best right one count as nearer: ties are no luck. Rows without one of the two
    (a zero vector) are left out. Metrics: `recall@K/A_to_B`, its 95 % interval over groups (`share_interval`), from
    `low@K/A_to_B` to `high@K/A_to_B`, its chance level `chance@K/A_to_B`, and those of B to A.
    """

    a: str = 'image'
    b: str = 'text'
    group: str = ''
    ks: tuple[int, ...] = (1, 5, 10)

    @property
    def asks(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        for name in (self.a, self.b):
            check_output(name, outputs, asker='retrieval')
        if self.group:
            check_field(self.group, batch, asker='retrieval')
        columns = {'a': outputs[self.a].astype(np.float32), 'b': outputs[self.b].astype(np.float32)}
        return columns | ({'group': batch[self.group]} if self.group else {})

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        real = columns['a'].any(axis=1) & columns['b'].any(axis=1)
        a, b = columns['a'][real], columns['b'][real]
        group = columns['group'][real] if self.group else np.arange(len(a))
        once = self.once(group)
        sides = ((self.a, a[once], group[once]), (self.b, b, group))
        scores = {}
        for (name, queries, asked), (other, gallery, held) in (sides, sides[::-1]):
            ranks = ranks_among(queries, gallery, asked, held)
            scores |= recall(ranks, asked=asked, held=held, ks=self.ks, name=f'{name}_to_{other}')
        return scores

    def once(self, group: Int[np.ndarray, 'n']) -> Int[np.ndarray, 'm']:
        """The rows of which `a` is a query and a candidate."""
        return np.arange(len(group))


@dataclass(frozen=True)
class CaptionRetrieval(Retrieval):
    """`Retrieval` as it is published for sets with several captions an image (Karpathy & Fei-Fei 2015, section 4.1).

    A row is an image and one of its captions, `group` the number of the image. Each image is a query and a candidate
    once, by its first row; each caption is both. An image is found by any of its captions:

        5 images x 5 captions   image -> text:  5 queries, 25 candidates, 5 of them right
                                text -> image: 25 queries,  5 candidates, 1 of them right
    """

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        if not self.group:
            raise UserError('caption_retrieval.group: name the field that numbers the images')
        return super().predictions(outputs, batch)

    def once(self, group: Int[np.ndarray, 'n']) -> Int[np.ndarray, 'm']:
        return np.sort(np.unique(group, return_index=True)[1])


def recall(
    ranks: Int[np.ndarray, 'q'],
    *,
    asked: Int[np.ndarray, 'q'],
    held: Int[np.ndarray, 'g'],
    ks: Sequence[int],
    name: str,
) -> dict[str, float]:
    """`recall@K/NAME`, from `low@K/NAME` to `high@K/NAME`, and `chance@K/NAME`.

    ranks: see `ranks_of`. asked, held: groups of queries and gallery; the interval is one over groups of queries.
    """
    scores = {}
    for k in ks:
        scores[f'recall@{k}/{name}'] = float((ranks < k).mean()) if len(ranks) else 0.0
        scores[f'low@{k}/{name}'], scores[f'high@{k}/{name}'] = share_interval(ranks < k, asked)
        scores[f'chance@{k}/{name}'] = _chance(asked, held, k)
    return scores


def ranks_of(scores: Float[np.ndarray, 'q g'], right: Bool[np.ndarray, 'q g']) -> Int[np.ndarray, 'q']:
    """How many wrong candidates score as high as each query's best right one; all, where none is right."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return (~(scores < best) & ~right).sum(axis=1)  # of a score that is NaN none is higher


def ranks_among(
    queries: Float[np.ndarray, 'q d'],
    gallery: Float[np.ndarray, 'g d'],
    asked: Int[np.ndarray, 'q'],
    held: Int[np.ndarray, 'g'],
) -> Int[np.ndarray, 'q']:
    """`ranks_of` the products of embeddings; of queries and candidates of the same group each is right."""
    ranks = []
    for start in range(0, len(queries), AT_ONCE):
        right = asked[start : start + AT_ONCE, None] == held[None, :]
        ranks.append(ranks_of(queries[start : start + AT_ONCE] @ gallery.T, right))
    return np.concatenate(ranks) if ranks else np.zeros(0, int)


def _chance(asked: Int[np.ndarray, 'q'], held: Int[np.ndarray, 'g'], k: int) -> float:
    """Recall@k of a random order: 1 - (ways to draw k without a right one) / (ways to draw k)."""
    n = len(held)
    wrong = n - (asked[:, None] == held[None, :]).sum(axis=1)
    drawn = np.arange(min(k, n))
    miss = np.prod(np.maximum(wrong[:, None] - drawn, 0) / (n - drawn), axis=1)
    return float(1 - miss.mean()) if len(asked) else 0.0
