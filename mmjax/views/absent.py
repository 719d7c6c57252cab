"""Modalities taken away, or kept and emptied of what they say."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mmjax.types import Batch
from mmjax.views.base import View, field_of


@dataclass(frozen=True)
class Without(View):
    """Some modalities are absent from every example."""

    modalities: tuple[str, ...] = ()

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        gone = {}
        for m in self.modalities:
            rows = jnp.ones(field_of(batch, m).shape[:1], bool)
            gone[f'{m}/present'] = jnp.zeros_like(batch.get(f'{m}/present', rows))  # of rows, or of packed items
        return {**batch, **gone}


@dataclass(frozen=True)
class Constant(View):
    """Some modalities are the same in every example: each number is 1, a dark image or a sentence of the first word.

    Their tokens are there, and say nothing: what they still bring is room to compute in.
    """

    modalities: tuple[str, ...] = ()

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        return {**batch, **{m: jnp.ones_like(field_of(batch, m)) for m in self.modalities}}
