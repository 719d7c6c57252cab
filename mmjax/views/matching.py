"""Pairs that match and pairs that do not."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mmjax.errors import UserError
from mmjax.types import Batch
from mmjax.views.base import View, entries_of, field_of
from mmjax.views.mismatched import derangement


@dataclass(frozen=True)
class Matching(View):
    """Some examples have another's second modality, and `match` [b] says of which that is true: 1 a pair, 0 none.

    For `CrossEntropy(output='match', target='match')` on a read-out of two classes (ViLBERT: Lu et al. 2019, section
    2.2; UNITER: Chen et al. 2020, eq. 3). modalities: the two; the second comes with all that the batch says of it.
    share: how likely an example is to be given another's. group: a field [b] of which equal values are right for each
    other. Another's that is of the same group, or equal, is a match too. `match/present` is False where either is
    absent.
    """

    modalities: tuple[str, str] = ('image', 'text')
    share: float = 0.5
    group: str = ''

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise UserError(f'matching.share: {self.share} is no probability; give one from 0 to 1')

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        stays, moves = self.modalities
        real = batch['weight'] > 0
        give, which = jax.random.split(key)
        partner = derangement(real, which)
        moved = jax.random.bernoulli(give, self.share, real.shape)
        row = jnp.where(moved, partner, jnp.arange(len(partner)))
        own = entries_of(batch, moves)
        seen = {**batch, **{name: x[row] for name, x in own.items()}}
        right = ~moved | _equal(seen[moves], own[moves])
        if self.group:
            group = field_of(batch, self.group)
            right |= group[row] == group
        there = field_of(batch, stays).shape[:1]
        present = [seen.get(f'{name}/present', jnp.ones(there, bool)) for name in self.modalities]
        return {**seen, 'match': right.astype(jnp.int32), 'match/present': present[0] & present[1]}


def _equal(a: Array, b: Array) -> Bool[Array, 'b']:
    return (a == b).all(axis=tuple(range(1, a.ndim)))
