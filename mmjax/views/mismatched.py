"""Fields that another example of the batch gave."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mmjax.types import Batch
from mmjax.views.base import View, entries_of


@dataclass(frozen=True)
class Mismatched(View):
    """Some fields come from another example, never from its own: all of them from the same one.

    A modality `m` brings all `m/…` along. Labels without any meaning are made by `data.permuted.Permuted`, which says
    why not by this.
    """

    fields: tuple[str, ...] = ()

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        partner = derangement(batch['weight'] > 0, key)
        moved = [entries_of(batch, name) for name in self.fields]
        return {**batch, **{name: x[partner] for entries in moved for name, x in entries.items()}}


def derangement(real: Array, key: jax.Array) -> Int[Array, 'b']:
    """For each row another one: the real rows in one random circle (where there are two), the others stay.

    real: bool [b].
    """
    b = real.shape[0]
    order = jnp.argsort(jax.random.uniform(key, (b,)) + jnp.where(real, 0.0, 2.0))  # real rows first, shuffled
    place = jnp.arange(b)
    last = real.sum() - 1
    following = jnp.where(place < last, place + 1, jnp.where(place == last, 0, place))
    return jnp.zeros(b, jnp.int32).at[order].set(order[following].astype(jnp.int32))
