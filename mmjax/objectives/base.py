"""What every objective is."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Objective:
    """A loss per example. The train step weighs it by the batch's `weight`, averages, and multiplies by `scale`."""

    scale: float = 1.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        raise NotImplementedError
