"""A token that stands for a modality which is not there."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.nn.parameter import parameter
from mmjax.types import Tokens


class Imputed(Encoder):
    """An encoder, and one learned vector, N(0, 0.02^2), in place of its tokens where the modality is absent:

        present   x x x x   mask 1 1 1 1, or whatever the encoder says: untouched
        absent    a 0 0 0   mask 1 0 0 0

    What reads the tokens then takes the modality for present: one that is missing votes too. The vector learns from
    rows that lack the modality alone, and stays as drawn where training has none (see `mmjax.data.DropModality`).
    """

    packs: ClassVar[bool] = False  # what is absent has no place in a packed row where it could be imputed

    encoder: Encoder

    @nn.compact
    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        tokens = self.encoder(x, present, train=train)
        vector = parameter(self, 'absent', tokens.values.shape[-1:], ('embed',)).astype(tokens.values.dtype)
        first = jnp.arange(tokens.mask.shape[1]) == 0
        row = rearrange(present, 'b -> b 1')
        values = jnp.where(rearrange(row, 'b n -> b n 1'), tokens.values, rearrange(first, 'n -> n 1') * vector)
        return tokens.replace(values=values, mask=jnp.where(row, tokens.mask, first))
