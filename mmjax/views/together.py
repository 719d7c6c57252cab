"""Several views at once."""

from dataclasses import dataclass

import jax

from mmjax.types import Batch
from mmjax.views.base import View


@dataclass(frozen=True)
class Together(View):
    """Each view on what the one before it gives, such as text and image both masked: one pass for the losses of all."""

    views: tuple[View, ...] = ()

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        for i, view in enumerate(self.views):
            batch = view(batch, jax.random.fold_in(key, i))
        return batch
