"""Images changed at random on the device, for objectives that compare what the model says of two of them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmjax.errors import UserError
from mmjax.types import Batch
from mmjax.views.base import View, field_of

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Red, green and blue of the grey value (ITU-R BT.601)."""
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
"""Luma and the two axes of the plane of colours (NTSC 1953)."""
RGB = np.linalg.inv(YIQ)
"""Back again."""


@dataclass(frozen=True)
class ImageChange(View):
    """Base: every image of `modality`, uint8 [b h w 3], packed [b k h w 3], by `change` with draws of its own.

    Raises:
        UserError: on images of another kind.
    """

    modality: str = 'image'

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        x = field_of(batch, self.modality)
        if x.ndim not in (4, 5) or x.shape[-1] != 3 or x.dtype != jnp.uint8:
            raise UserError(
                f'view: {type(self).__name__} changes images of three bytes a pixel, uint8 [b h w 3] or '
                f"[b k h w 3]; '{self.modality}' is {x.dtype} {list(x.shape)}"
            )
        change = self.change if x.ndim == 4 else jax.vmap(self.change)
        changed = jax.vmap(change)(x.astype(jnp.float32), jax.random.split(key, x.shape[:-3]))
        return {**batch, self.modality: jnp.clip(jnp.round(changed), 0, 255).astype(jnp.uint8)}

    def change(self, image: Float[Array, 'h w 3'], key: jax.Array) -> Float[Array, 'h w 3']:
        """One image, of 0..255."""
        raise NotImplementedError


@dataclass(frozen=True)
class Cropped(ImageChange):
    """A random part of each image at the size of the whole, bilinearly: the inception crop (Szegedy et al. 2015,
    section 6), as `data.RandomCrop` on the host, but for images that have their size already.

    area: least and greatest share of the image's area. aspect: least and greatest width / height of the part,
    log-uniform. A side that would be longer than the image's is as long.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f'view: Cropped.area is {self.area}: use shares above 0 and at most 1, the least first')
        if not 0 < self.aspect[0] <= self.aspect[1] < np.inf:
            raise UserError(f'view: Cropped.aspect is {self.aspect}: use ratios above 0, the least first')

    def change(self, image: Float[Array, 'h w 3'], key: jax.Array) -> Float[Array, 'h w 3']:
        size = jnp.array(image.shape[:2], jnp.float32)
        share, shape, place = jax.random.split(key, 3)
        area = jax.random.uniform(share, minval=self.area[0], maxval=self.area[1]) * size.prod()
        narrow, wide = np.log(self.aspect)
        aspect = jnp.exp(jax.random.uniform(shape, minval=narrow, maxval=wide))
        part = jnp.minimum(jnp.sqrt(jnp.stack([area / aspect, area * aspect])), size)
        start = jax.random.uniform(place, (2,)) * (size - part)
        scale = size / part
        return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -start * scale, 'linear')


@dataclass(frozen=True)
class Recolored(ImageChange):
    """Brightness, contrast, saturation and hue changed, and for some images the colours taken out (SimCLR: Chen et al.
    2020, appendix A).

    share: of the images whose colours are jittered. brightness, contrast, saturation: factors from 1 - x to 1 + x, not
    below 0, of the distance from black, from the image's mean grey value and from the pixel's own. hue: a turn of the
    plane of colours by up to this share of a circle, either way. grey: share of the images left with their grey values,
    jittered or not. Always in this order, where the paper's is random.
    """

    share: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2

    def __post_init__(self):
        for name, most in (('share', 1), ('grey', 1), ('hue', 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f'view: Recolored.{name} is {getattr(self, name)}: use a share from 0 to {most}')
        for name in ('brightness', 'contrast', 'saturation'):
            if not 0 <= getattr(self, name) < np.inf:
                raise UserError(f'view: Recolored.{name} is {getattr(self, name)}: use 0 or more')

    def change(self, image: Float[Array, 'h w 3'], key: jax.Array) -> Float[Array, 'h w 3']:
        chosen, turned, greyed, *keys = jax.random.split(key, 6)
        brightness, contrast, saturation = (
            jax.random.uniform(k, minval=max(0.0, 1 - most), maxval=1 + most)
            for k, most in zip(keys, (self.brightness, self.contrast, self.saturation), strict=True)
        )
        x = jnp.clip(image * brightness, 0, 255)
        x = _stretched(x, _grey(x).mean(), contrast)
        x = _stretched(x, _grey(x), saturation)
        angle = 2 * jnp.pi * jax.random.uniform(turned, minval=-self.hue, maxval=self.hue)
        x = jnp.clip(_turned(x, angle), 0, 255)
        x = jnp.where(jax.random.bernoulli(chosen, self.share), x, image)
        return jnp.where(jax.random.bernoulli(greyed, self.grey), jnp.broadcast_to(_grey(x), x.shape), x)


def _grey(x: Float[Array, 'h w 3']) -> Float[Array, 'h w 1']:
    return (x * LUMA).sum(axis=-1, keepdims=True)


def _stretched(x: Float[Array, 'h w 3'], start: Float[Array, '...'], factor: Float[Array, '']) -> Array:
    return jnp.clip(start + (x - start) * factor, 0, 255)


def _turned(x: Float[Array, 'h w 3'], angle: Float[Array, '']) -> Float[Array, 'h w 3']:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return jnp.einsum('hwc,dc->hwd', x, RGB @ turn @ YIQ, precision='highest')
