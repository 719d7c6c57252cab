"""Random changes of an image's colours and sharpness, for training: what SimCLR's recipe is made of beside crops.

Each takes uint8 [h, w, 3], after the transform that gives the image its size, and lets an absent image be.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from PIL import ImageEnhance, ImageFilter

from mmjax.data.base import Example, Transform
from mmjax.errors import UserError

Pixels = UInt8[np.ndarray, 'h w 3']


@dataclass(frozen=True)
class _Recolored(Transform):
    """Every such transform: the image of `key` as `change` gives it, with probability `share`."""

    key: str = 'image'
    share: float = 1.0
    random: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise UserError(f'{type(self).__name__}.share is {self.share}: use a probability from 0 to 1')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        image = example[self.key]
        if image.shape[-1] != 3:
            raise UserError(f"{type(self).__name__}: '{self.key}' has {image.shape[-1]} channels; it takes RGB")
        chosen = rng.random() < self.share and example.get(f'{self.key}/present', True)
        return {self.key: np.asarray(self.change(PIL.Image.fromarray(image), rng)) if chosen else image}

    def change(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        raise NotImplementedError


@dataclass(frozen=True)
class ColorJitter(_Recolored):
    """Brightness, contrast, saturation and hue, changed in random order (Chen et al. 2020, appendix A).

    brightness, contrast, saturation: factors from 1 - x to 1 + x, not below 0, each as likely, as Pillow's
    `ImageEnhance` takes them. hue: turned by up to this share of the circle either way.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for name in ('brightness', 'contrast', 'saturation'):
            if getattr(self, name) < 0:
                raise UserError(f'ColorJitter.{name} is {getattr(self, name)}: use 0 or more')
        if not 0 <= self.hue <= 0.5:
            raise UserError(f'ColorJitter.hue is {self.hue}: use a share of the circle from 0 to 0.5')

    def change(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        enhancers = (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        )
        for i in rng.permutation(4).tolist():
            if i == 3:
                image = turned(image, rng.uniform(-self.hue, self.hue))
            else:
                enhancer, most = enhancers[i]
                image = enhancer(image).enhance(rng.uniform(max(0.0, 1 - most), 1 + most))
        return image


@dataclass(frozen=True)
class RandomGrey(_Recolored):
    """Takes the colours out of a share of the images (ITU-R 601 luma, as Pillow's 'L' has it)."""

    share: float = 0.2

    def change(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        return image.convert('L').convert('RGB')


@dataclass(frozen=True)
class RandomBlur(_Recolored):
    """Blurs a share of the images by a Gaussian. radius: its least and greatest standard deviation, in pixels."""

    share: float = 0.5
    radius: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.radius[0] <= self.radius[1]:
            raise UserError(f'RandomBlur.radius is {self.radius}: use pixels from 0 on, the least first')

    def change(self, image: PIL.Image.Image, rng: np.random.Generator) -> PIL.Image.Image:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(*self.radius)))


def turned(image: PIL.Image.Image, share: float) -> PIL.Image.Image:
    """Hues turned by a share of the circle, in steps of 1/256; greys stay."""
    steps = round(share * 256) % 256
    if not steps:
        return image  # by way of HSV it would be rounded
    hue, saturation, value = image.convert('HSV').split()
    moved = hue.point([(i + steps) % 256 for i in range(256)])
    return PIL.Image.merge('HSV', (moved, saturation, value)).convert('RGB')
