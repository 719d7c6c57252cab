"""Numbers. Float32 whatever the compute dtype."""

from collections.abc import Mapping
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.nn.dense import Dense
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.types import Fused, Tokens, concatenate, masked_mean


class Regressor(Decoder):
    """A linear map of the mean of all real tokens to `width` numbers, which may be any."""

    width: int = 1
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        tokens = concatenate(self.read(fused))
        pooled = masked_mean(tokens.replace(values=self.norm.copy(name='norm_tokens')(tokens.values)))
        return Dense((self.width,), ('embed', 'classes'), name='numbers')(pooled).astype(jnp.float32)
