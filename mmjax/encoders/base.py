"""What every encoder is."""

from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool

from mmjax.types import Tokens


class Encoder(nn.Module):
    """One modality to tokens of one width.

    needs_input: False for tokens that are learned, not read; the model then passes None.
    """

    needs_input: ClassVar[bool] = True

    def __call__(self, x: Any, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        """x: the modality's array of the batch; None where `needs_input` is False.

        Rows where `present` is False give tokens that are all masked.
        """
        raise NotImplementedError
