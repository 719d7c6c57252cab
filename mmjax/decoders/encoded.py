"""What one modality says alone: read from its encoder, before fusion."""

from collections.abc import Mapping

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from mmjax.decoders.classification import Classifier
from mmjax.types import Fused, Tokens, masked_mean


class EncodedMean(Classifier):
    """Linear on the mean of the real tokens that the encoder of one stream gives, whatever the fusion does with them.

    Where the modality is absent it knows but its bias. detached: its loss trains this classifier and not the encoder,
    so that it measures without changing what it measures.
    """

    detached: bool = False

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        tokens = self.own(encoded, asker='encoded_mean')
        if self.detached:
            tokens = tokens.replace(values=jax.lax.stop_gradient(tokens.values))
        return self._logits(masked_mean(self._normed(tokens)))
