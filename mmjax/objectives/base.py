"""What every objective is."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Array, Float

from mmjax.types import Batch, Outputs
from mmjax.views.base import CLEAN, View

BESIDE = 'beside/'
"""What the outputs of an objective's other view begin with."""


@dataclass(frozen=True)
class Objective:
    """A loss per row of the batch. The train step averages it by `weights` and multiplies it by `scale`.

    view: what it sees of the batch; the model runs once for each distinct view. couples_rows: whether an example's loss
    depends on the others, so that it must see the outputs of the whole batch at once. causal: whether a token of its
    `target` must not be seen from those before it, which not every fusion can promise.
    """

    couples_rows: ClassVar[bool] = False
    causal: ClassVar[bool] = False

    scale: float = 1.0
    view: View = field(default=CLEAN, metadata={'old': CLEAN})

    @property
    def views(self) -> tuple[View, ...]:
        """`view`, and where it compares what the model says of that with what it says of another, the other one."""
        return (self.view,)

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        """outputs, batch: of `view`; of the other view also each output, as `beside/NAME`."""
        raise NotImplementedError

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        """How much each row counts in the average over the whole batch, whatever parts it is accumulated in.

        The batch's own `weight`, unless the objective says else: one that averages over tokens gives their number.
        """
        return batch['weight']


def with_target(batch: Batch, target: str) -> Float[Array, 'b']:
    """The batch's `weight`, and 0 for a row that lacks the target (`TARGET/present` is False)."""
    return batch['weight'] * batch.get(f'{target}/present', 1)
