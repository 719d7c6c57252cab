"""Early fusion in which every token enters with what the whole image looks like."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.fusion.early import Early
from mmjax.nn.dense import Dense
from mmjax.nn.masks import attention_mask
from mmjax.types import Tokens


class VisualEmbedding(Early):
    """VL-BERT (Su et al. 2020, section 3.2): `Early`, and each token of another modality is added the visual feature of
    the whole image, W times the mean of the image's tokens, before the first layer.

    The tokens of the image have no word; their type vector is the paper's [IMG]. A token sees the image that it may
    read: that of its example, where a row holds several. seen: the modality that is seen. Where it is absent nothing
    is added; without layers the design changes nothing.

    Raises:
        UserError: where the model has no such modality.
    """

    causal: ClassVar[bool] = False  # the mean of the image is no attention, so that a single token could not be added

    seen: str = 'image'

    def mark(self, mods: dict[str, Tokens]) -> dict[str, Tokens]:
        image = mods[self.reader_of(mods, self.seen)]
        if not self.depth:
            return mods
        project = Dense((image.values.shape[-1],), ('embed', 'mlp'), bias=False, name='visual')
        return {
            name: x if name == self.seen else x.replace(values=x.values + project(_mean_of(image, asker=x)))
            for name, x in mods.items()
        }


def _mean_of(image: Tokens, *, asker: Tokens) -> Float[Array, 'b n d']:
    weights = attention_mask(asker, image).astype(image.values.dtype)
    count = jnp.maximum(weights.sum(axis=-1, keepdims=True), 1)
    return jnp.einsum('bnm,bmd->bnd', weights / count, image.values)
