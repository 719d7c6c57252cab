"""What a two-tower objective compares: one unit vector an example and modality, and the temperature of the scores."""

from collections.abc import Mapping
from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import repeat
from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.errors import UserError
from mmjax.nn.dense import Dense
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.parameter import parameter
from mmjax.types import Fused, Tokens, masked_mean


class Embedded(Decoder):
    """A linear map of the mean of the tokens that one stream's encoder gives, divided by its length.

    It reads no fusion: the vector of an example depends on that modality alone, so that a gallery of them can be kept.
    Where there is no token it is zero, which the losses take for absent; with an encoder that puts a token in the place
    of an absent modality (`Imputed`) it never is. width: of the vector.
    """

    width: int = 128
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b d']:
        tokens = self.own(encoded, asker='embedded')
        pooled = masked_mean(tokens.replace(values=self.norm.copy(name='norm_tokens')(tokens.values)))
        x = Dense((self.width,), ('embed', 'classes'), bias=False, name='project')(pooled).astype(jnp.float32)
        length = jnp.sqrt(jnp.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12))
        return jnp.where(tokens.present[:, None], x / length, 0)


class Temperature(Decoder):
    """Two learned numbers, the same in every row: the log of what scores are multiplied by, and what is added to them.

    scale, bias: where they start: 1 / 0.07 and 0 for CLIP (Radford et al. 2021, section 2.5), 10 and -10 for SigLIP
    (Zhai et al. 2023, section 3.2). most: the scale is no larger; its gradient goes on, so that it can come back. Under
    bfloat16 they are rounded as all parameters are.

    Raises:
        UserError: on a scale that is not above 0 or beyond `most`.
    """

    scale: float = 1 / 0.07
    bias: float = 0.0
    most: float = 100.0

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b 2']:
        if not 0 < self.scale <= self.most:
            raise UserError(f'temperature.scale: {self.scale} is not above 0 and at most {self.most}')
        start = nn.initializers.constant(jnp.array([jnp.log(self.scale), self.bias]))
        log_scale, bias = parameter(self, 'numbers', (2,), (None,), start).astype(jnp.float32)
        log_scale += jax.lax.stop_gradient(jnp.minimum(log_scale, jnp.log(self.most)) - log_scale)
        rows = next(iter(encoded.values())).mask.shape[0]
        return repeat(jnp.stack([log_scale, bias]), 'two -> b two', b=rows)
