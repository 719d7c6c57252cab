"""What every objective is."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Array, Float

from mmjax.types import Batch, Outputs
from mmjax.views.base import CLEAN, View


@dataclass(frozen=True)
class Objective:
    """A loss per example. The train step weighs it by the batch's `weight`, averages, and multiplies by `scale`.

    view: what it sees of the batch; the model runs once for each distinct view. couples_rows: whether an example's loss
    depends on the others, so that it must see the outputs of the whole batch at once.
    """

    couples_rows: ClassVar[bool] = False

    scale: float = 1.0
    view: View = field(default=CLEAN, metadata={'old': CLEAN})

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        raise NotImplementedError
