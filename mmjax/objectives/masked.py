"""Masked modelling: what a view has taken away, guessed where it is missing. The views are `mmjax.views.masked`.

Every loss is the mean over all masked tokens of the batch, not a mean over rows of their means: `weights` gives each
row the number of its masked tokens.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax
from einops import rearrange, reduce
from jaxtyping import Array, Bool, Float

from mmjax.errors import UserError, check_output, nearest
from mmjax.objectives.base import Objective
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Masked(Objective):
    """Base: a loss per token, averaged over those that are masked.

    output: name of what the decoder gives at each token [b n …]. field: the masked modality, whose `field/target` and
    `field/masked` the view has added.

    Raises:
        UserError: where the model has no such output, or the view masks no such field.
    """

    abstract: ClassVar[bool] = True

    output: str = ''
    field: str = ''

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        check_output(self.output, outputs, asker='masked')
        masked = self._masked(batch)
        losses = self.of_tokens(outputs[self.output].astype(jnp.float32), batch[f'{self.field}/target'], masked)
        return jnp.where(masked, losses, 0).sum(axis=1) / jnp.maximum(masked.sum(axis=1), 1)

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        return batch['weight'] * self._masked(batch).sum(axis=1)

    def of_tokens(self, guess: Array, target: Array, masked: Bool[Array, 'b n']) -> Float[Array, 'b n']:
        """The loss at every token; those that are not masked are not looked at."""
        raise NotImplementedError

    def _masked(self, batch: Batch) -> Bool[Array, 'b n']:
        name = f'{self.field}/masked'
        if name not in batch or f'{self.field}/target' not in batch:
            there = [key.removesuffix('/masked') for key in batch if key.endswith('/masked')]
            raise UserError(
                f"masked: the objective's view masks no '{self.field}'{nearest(self.field, there)} (it masks "
                f'{there}); set its `view` to one that does, such as MaskedText or MaskedImage'
            )
        return rearrange(batch[name], 'b ... n -> b (... n)')  # of packed images: one after the other


@dataclass(frozen=True)
class MaskedTokens(Masked):
    """Cross-entropy of the logits [b n v] with the ids that were there, in nats. Devlin et al. 2019, section 3.1."""

    output: str = 'text'
    field: str = 'text'

    def of_tokens(self, guess: Array, target: Array, masked: Bool[Array, 'b n']) -> Float[Array, 'b n']:
        if guess.shape[:2] != target.shape:
            raise UserError(
                f"masked_tokens: output '{self.output}' is {list(guess.shape)}, but '{self.field}' has the ids "
                f'{list(target.shape)}; logits [b n v] of its own stream are needed'
            )
        return optax.softmax_cross_entropy_with_integer_labels(guess, target)


@dataclass(frozen=True)
class MaskedPixels(Masked):
    """L1 distance to the pixels that were there, the mean over a patch's numbers, bytes taken as -1..1. Xie et al. 2022
    (SimMIM), section 3.4. The output is [b n p*p*c] as `PatchPixels` gives it, one token a patch of the view.
    """

    output: str = 'image'
    field: str = 'image'

    def of_tokens(self, guess: Array, target: Array, masked: Bool[Array, 'b n']) -> Float[Array, 'b n']:
        return jnp.abs(guess - self._patches(guess, target, masked)).mean(axis=-1)

    def _patches(self, guess: Array, target: Array, masked: Bool[Array, 'b n']) -> Float[Array, 'b n f']:
        """The target's patches, in raster order: rows of pixels, pixels of a row, channels."""
        *_, height, width, channels = target.shape
        images = math.prod(target.shape[1:-3])
        side = math.isqrt(height * width * images // masked.shape[1])
        if guess.shape[1:] != (masked.shape[1], side * side * channels):
            raise UserError(
                f'masked_pixels: the view masks {masked.shape[1]} patches of {side}x{side}x{channels} numbers, but the '
                f"model's output '{self.output}' has {guess.shape[1]} tokens of {guess.shape[2]}; give the view and "
                'the decoder the patch that the encoder makes a token of'
            )
        pixels = target.astype(jnp.float32)
        pixels = pixels / 127.5 - 1 if target.dtype == jnp.uint8 else pixels
        return rearrange(pixels, 'b ... (y p) (x q) c -> b (... y x) (p q c)', p=side, q=side)


@dataclass(frozen=True)
class MaskedNormalisedPixels(MaskedPixels):
    """Squared distance to the pixels, of which each patch is brought to mean 0 and variance 1; its mean. He et al. 2022
    (MAE), section 3, "reconstruction target". A patch of one colour is all zeros: of its colour nothing is asked.
    """

    def of_tokens(self, guess: Array, target: Array, masked: Bool[Array, 'b n']) -> Float[Array, 'b n']:
        patches = self._patches(guess, target, masked)
        mean = reduce(patches, 'b n f -> b n 1', 'mean')
        variance = reduce((patches - mean) ** 2, 'b n f -> b n 1', 'mean')
        return ((guess - (patches - mean) / jnp.sqrt(variance + 1e-6)) ** 2).mean(axis=-1)
