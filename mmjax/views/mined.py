"""Views that are mined from what the model gave on another view: its encoders have run, and are not asked again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Int

from mmjax.errors import UserError, check_output
from mmjax.types import Batch, Outputs
from mmjax.views.base import CLEAN, View, field_of


class Mining(NamedTuple):
    """batch: what the objectives see, of r rows, as many as the view likes. rows: by encoder, from which rows its
    tokens are taken. rest: from which those of every other encoder are.
    """

    batch: Batch
    rows: Mapping[str, Int[Array, 'r']]
    rest: Int[Array, 'r']


@dataclass(frozen=True)
class Mined(View):
    """The encoded tokens of the view `after`, put together anew: only fusion and decoders run on it.

    It needs the outputs of the whole batch, and so no accumulation.
    """

    after: View = CLEAN

    def __post_init__(self):
        if isinstance(self.after, Mined):
            raise UserError(f'view: {type(self).__name__} is mined after {type(self.after).__name__}, itself mined')

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        raise UserError(f'view: {type(self).__name__} is mined from what a model gives; objectives alone can see it')

    def mine(self, outputs: Outputs, batch: Batch, key: jax.Array) -> Mining:
        """outputs, batch: of the view `after`. No gradient goes through what is chosen."""
        raise NotImplementedError


@dataclass(frozen=True)
class HardNegatives(Mined):
    """Each pair, and beside it two wrong ones that the towers take for nearly right (ALBEF: Li et al. 2021, section
    3.2): the first modality with another's second, and the second with another's first, drawn in proportion to the
    softmax of the contrastive scores.

    modalities: the encoders that are paired. outputs: the embeddings of each [b d], see `Embedded`; temperature: the
    output of `Temperature`. group: a field [b] of which equal values are right for each other. Never drawn are an
    example's own partner, those of its group, those with the same ids of a text, and rows that lack either modality.
    Gives `match` [3b], 1 or 0, and `match/present`: False where an example lacks a modality or all are excluded.

    Tokens of all examples are gathered on each device that a partner is asked from: batches of a few thousand.
    """

    modalities: tuple[str, str] = ('image', 'text')
    outputs: tuple[str, str] = ('image', 'text')
    temperature: str = 'temperature'
    group: str = ''

    def mine(self, outputs: Outputs, batch: Batch, key: jax.Array) -> Mining:
        for name in (*self.outputs, self.temperature):
            check_output(name, outputs, asker='hard_negatives')
        a, b = (jax.lax.stop_gradient(outputs[name].astype(jnp.float32)) for name in self.outputs)
        scale = jnp.exp(jax.lax.stop_gradient(outputs[self.temperature][0, 0].astype(jnp.float32)))
        real = (batch['weight'] > 0) & a.any(axis=-1) & b.any(axis=-1)
        wrong = real[:, None] & real[None, :] & ~self._right(batch)
        scores = scale * jnp.einsum('id,jd->ij', a, b)
        first, second = jax.random.split(key)
        of_a, any_b = _drawn(scores, wrong, first)  # for each of the first modality, another's second
        of_b, any_a = _drawn(scores.T, wrong.T, second)
        own = jnp.arange(len(real), dtype=of_a.dtype)
        yes = jnp.ones(len(real), jnp.int32)

        def three(*rows: Array) -> Array:  # those of one example stay together, and so on its device
            return rearrange(jnp.stack(rows), 'three b -> (b three)')

        told = {
            'match': three(yes, 0 * yes, 0 * yes),
            'match/present': three(real, any_b, any_a),
            **{name: repeat(batch[name], 'b -> (b three)', three=3) for name in ('weight', 'source') if name in batch},
        }
        rows = dict(zip(self.modalities, (three(own, own, of_b), three(own, of_a, own)), strict=True))
        return Mining(told, rows, three(own, own, own))

    def _right(self, batch: Batch) -> Bool[Array, 'b b']:
        """Which pairs are no mismatch: those of one example, one group, one text."""
        right = jnp.eye(len(batch['weight']), dtype=bool)
        if self.group:
            group = field_of(batch, self.group)
            right |= group[:, None] == group[None, :]
        for name in self.modalities:
            x = field_of(batch, name)
            if x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.integer):
                right |= (x[:, None] == x[None, :]).all(axis=-1)
        return right


def _drawn(scores: Float[Array, 'a b'], allowed: Bool[Array, 'a b'], key: jax.Array) -> tuple[Array, Array]:
    """For each row one of the allowed columns, by the softmax of its scores; and whether there was one."""
    drawn = jax.random.categorical(key, jnp.where(allowed, scores, -jnp.inf))
    return drawn, allowed.any(axis=-1)
