"""What each token is: logits over a vocabulary, or the pixels of a patch, at every place of a stream. Float32 whatever
the compute dtype.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.nn.dense import Dense, Weights
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.sharding import constrain
from mmjax.types import Deferred, Fused, Tokens


class TokenLogits(Decoder):
    """One linear layer on each token that the fusion gives of one stream.

    vocabulary: how many logits. bias: whether each has a number added.

    Raises:
        UserError: on another number of streams than one.
    """

    packs: ClassVar[bool] = True

    streams: tuple[str, ...] = ('text',)
    vocabulary: int = 258
    norm: Norm = field(default_factory=LayerNorm)
    bias: bool = field(default=True, metadata={'old': True})

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b n v']:
        logits = Dense(*self._layer(), name='logits')(self._normed(fused))
        return constrain(logits.astype(jnp.float32), 'batch', 'length', 'vocab')

    def _normed(self, fused: Fused) -> Float[Array, 'b n d']:
        """What the layer is given. Called inside the compact method."""
        return self.norm.copy(name='norm_tokens')(self.read_one(fused, asker=type(self).__name__).values)

    def _layer(self) -> tuple[Any, ...]:
        return (self.vocabulary,), ('embed', 'vocab'), self.bias


class DeferredLogits(TokenLogits):
    """`TokenLogits` for vocabularies whose logits do not fit: while training they are not given but handed to the
    objective, which computes them part by part and again in its backward pass (`objectives.NextToken`).

    parts: in how many, as far as the length divides.
    """

    parts: int = 4

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b n v'] | Deferred:  # pyright: ignore
        values = self._normed(fused)
        if train:
            return Deferred(values, *Weights(*self._layer(), name='logits')(values), self.parts)
        logits = Dense(*self._layer(), name='logits')(values)
        return constrain(logits.astype(jnp.float32), 'batch', 'length', 'vocab')


class PatchPixels(Decoder):
    """One linear layer on each token that the fusion gives of an image, to the pixels of its patch: rows of pixels,
    pixels of a row, channels (SimMIM's one-layer head: Xie et al. 2022, section 3.3).

    patch: side in pixels of what one token stands for: the patch of a `PatchEncoder`; of a `ConvEncoder` 2 to the
    number of its convolutions. channels: of the image.

    Raises:
        UserError: on another number of streams than one.
    """

    packs: ClassVar[bool] = True

    streams: tuple[str, ...] = ('image',)
    patch: int = 8
    channels: int = 3
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b n f']:
        values = self.norm.copy(name='norm_tokens')(self.read_one(fused, asker='patch_pixels').values)
        numbers = self.patch * self.patch * self.channels
        return Dense((numbers,), ('embed', 'patch'), name='pixels')(values).astype(jnp.float32)
