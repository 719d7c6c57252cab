"""An encoder whose tokens are made as wide as those that they are to meet."""

from dataclasses import field
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.nn.dense import Dense
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.types import Tokens


class Projected(Encoder):
    """The tokens of an encoder after a norm and a linear map to `width` numbers: the connector of LLaVA (Liu et al.
    2023, eq. 1) and PaliGemma (Beyer et al. 2024, section 3.1). What a batch says of single tokens (`Encoder.marks`) is
    not given to the encoder.
    """

    marks: ClassVar[tuple[str, ...]] = ()

    encoder: Encoder
    width: int = 128
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        tokens = self.encoder(x, present, train=train)
        values = self.norm.copy(name='norm_tokens')(tokens.values)
        return tokens.replace(values=Dense((self.width,), ('embed', 'project'), name='project')(values))
