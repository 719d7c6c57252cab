"""What every encoder is."""

from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool

from mmjax.types import Tokens


class Encoder(nn.Module):
    """One modality to tokens of one width.

    needs_input: False for tokens that are learned, not read; the model then passes None. marks: what else of the batch
    it takes, such as 'segments', 'positions' and 'causal' [b n]: each is a keyword argument, given where the batch has
    `m/MARK`. An encoder that does not take 'segments' is given the items of a packed row as examples of their own.
    """

    needs_input: ClassVar[bool] = True
    marks: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = True  # whether its tokens are of one example each where a row has several

    def __call__(self, x: Any, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        """x: the modality's array of the batch; None where `needs_input` is False.

        Rows where `present` is False give tokens that are all masked.
        """
        raise NotImplementedError
