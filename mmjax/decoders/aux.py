"""What a fusion tells of itself, as an output, so that an objective or an evaluator can read it."""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.errors import UserError, nearest
from mmjax.types import Fused, Tokens


class Aux(Decoder):
    """`Fused.aux[told]` [b …]: gates, weights, what a mixture of experts counts of its choices.

    Raises:
        UserError: on something that the fusion does not tell.
    """

    packs: ClassVar[bool] = True  # what the fusion of a packed row tells is not of one example, but mixes none

    told: str = 'router'

    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b ...']:
        if self.told not in fused.aux:
            raise UserError(
                f"aux.told: the fusion tells no '{self.told}'{nearest(self.told, fused.aux)} "
                f'(it tells {sorted(fused.aux) or "nothing"})'
            )
        return fused.aux[self.told]
