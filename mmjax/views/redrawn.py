"""The same view, seen again with draws of its own."""

from dataclasses import dataclass

import jax

from mmjax.types import Batch
from mmjax.views.base import CLEAN, View


@dataclass(frozen=True)
class Redrawn(View):
    """`view` with other draws than the view itself has in the same step: the second of two augmented images, say."""

    view: View = CLEAN

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        return self.view(batch, jax.random.fold_in(key, 1))
