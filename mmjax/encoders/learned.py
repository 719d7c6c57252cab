"""Tokens that read nothing: a class token, for every fusion design, is a modality that is always there."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import repeat
from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.nn.parameter import parameter
from mmjax.types import Tokens


class LearnedTokens(Encoder):
    """`length` learned vectors, N(0, 0.02^2), the same for each example. One of them: BERT's class token."""

    needs_input: ClassVar[bool] = False
    packs: ClassVar[bool] = False  # they would be of no example

    width: int = 128
    length: int = 1

    @nn.compact
    def __call__(self, x: Array | None, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        values = parameter(self, 'embedding', (self.length, self.width), ('positions', 'embed'))
        b = present.shape[0]
        return Tokens.of(repeat(values, 'n d -> b n d', b=b), jnp.ones((b, self.length), bool))
