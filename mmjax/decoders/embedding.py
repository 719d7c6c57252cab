"""What a two-tower objective compares: one unit vector an example and modality, and the temperature of the scores."""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

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
from mmjax.nn.pool import MeanPool, Pool
from mmjax.types import Fused, Tokens


class PooledVector(Decoder):
    """The pooled tokens of one stream's encoder, divided by their length. SigLIP's image tower, with `ProbePool`.

    It reads no fusion: the vector of an example depends on that modality alone, so that a gallery of them can be kept.
    Where there is no token it is zero, which the losses take for absent; with an encoder that puts a token in the place
    of an absent modality (`Imputed`) it never is. norm: of the tokens before they are pooled.
    """

    norm: Norm = field(default_factory=LayerNorm)
    pool: Pool = field(default_factory=MeanPool, metadata={'old': MeanPool()})

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b d']:
        tokens = self.own(encoded, asker=type(self).__name__)
        pooled = self.pool.copy(name='pooled')(tokens.replace(values=self.norm.copy(name='norm_tokens')(tokens.values)))
        x = self._mapped(pooled).astype(jnp.float32)
        length = jnp.sqrt(jnp.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12))
        return jnp.where(tokens.present[:, None], x / length, 0)

    def _mapped(self, pooled: Float[Array, 'b d']) -> Float[Array, 'b d2']:
        """What is done to the vector before its length is. Called inside the compact method."""
        return pooled


class Embedded(PooledVector):
    """The same after a linear map, so that towers of different widths meet. CLIP, with `FirstPool` and `LastPool`;
    SigLIP's text tower, with `LastPool` and a bias.

    width: of the vector. bias: whether the map adds one.
    """

    width: int = 128
    bias: bool = field(default=False, metadata={'old': False})

    def _mapped(self, pooled: Float[Array, 'b d']) -> Float[Array, 'b d2']:
        return Dense((self.width,), ('embed', 'classes'), bias=self.bias, name='project')(pooled)


class Temperature(Decoder):
    """Two learned numbers, the same in every row: the log of what scores are multiplied by, and what is added to them.

    scale, bias: where they start: 1 / 0.07 and 0 for CLIP (Radford et al. 2021, section 2.5), 10 and -10 for SigLIP
    (Zhai et al. 2023, section 3.2). most: the scale is no larger; its gradient goes on, so that it can come back. Under
    bfloat16 they are rounded as all parameters are.

    Raises:
        UserError: on a scale that is not above 0 or beyond `most`.
    """

    packs: ClassVar[bool] = True

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
