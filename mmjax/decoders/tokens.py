"""What each token is: logits over a vocabulary, at every place of a stream. Float32 whatever the compute dtype."""

from collections.abc import Mapping
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.errors import UserError
from mmjax.nn.dense import Dense
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.sharding import constrain
from mmjax.types import Fused, Tokens


class TokenLogits(Decoder):
    """One linear layer on each token that the fusion gives of one stream.

    vocabulary: how many logits.

    Raises:
        UserError: on another number of streams than one.
    """

    streams: tuple[str, ...] = ('text',)
    vocabulary: int = 258
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b n v']:
        if len(self.streams) != 1:
            raise UserError(f'token_logits: reads one stream, got {self.streams}')
        tokens = self.read(fused)[self.streams[0]]
        values = self.norm.copy(name='norm_tokens')(tokens.values)
        logits = Dense((self.vocabulary,), ('embed', 'vocab'), name='logits')(values).astype(jnp.float32)
        return constrain(logits, 'batch', 'length', 'vocab')
