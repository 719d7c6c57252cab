"""Crops that keep the aspect ratio: a random part of an image in training, its middle in evaluation.

A training pipeline names both, the random one first: what is left out of evaluation leaves the encoded bytes to the
other, and what is there gives it an array of the right size, which it lets through.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from mmjax.data.base import Example, Transform
from mmjax.data.transforms import decode
from mmjax.errors import UserError

TRIES = 10
"""Boxes that are drawn before the whole image is taken; for a photograph the first nearly always fits."""

Box = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels."""


@dataclass(frozen=True)
class RandomCrop(Transform):
    """A random part of an image, resized to uint8 [size, size, 3]: the inception crop (Szegedy et al. 2015, section 6).

    area: least and greatest share of the image's area. aspect: least and greatest width / height, log-uniform. Takes
    encoded bytes or a uint8 array; sets `{key}/present`; an absent image (None) becomes zeros. Resized bilinearly,
    antialiased. Raises UserError as `Image` does.
    """

    key: str = 'image'
    size: int = 224
    area: tuple[float, float] = (0.05, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    random: ClassVar[bool] = True

    def __post_init__(self):
        _check_size(self, self.size)
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f'RandomCrop.area is {self.area}: use shares above 0 and at most 1, the least first')
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f'RandomCrop.aspect is {self.aspect}: use ratios above 0, the least first')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        image = _rgb(self, example[self.key])
        if image is None:
            return _entries(self, None)
        box = self.box(image.width, image.height, rng)
        pixels = image.crop(box).resize((self.size, self.size), PIL.Image.Resampling.BILINEAR)  # sees nothing outside
        return _entries(self, np.asarray(pixels))

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """A box of random area, aspect and place; the whole image where `TRIES` draws do not fit into it."""
        for _ in range(TRIES):
            area = rng.uniform(*self.area) * width * height
            narrow, wide = (math.log(ratio) for ratio in self.aspect)
            aspect = math.exp(rng.uniform(narrow, wide))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, upper = rng.integers(width - w, endpoint=True), rng.integers(height - h, endpoint=True)
                return int(left), int(upper), int(left) + w, int(upper) + h
        return 0, 0, width, height


@dataclass(frozen=True)
class CentralCrop(Transform):
    """The middle of an image: the shorter side resized to `resize` pixels, then the middle as uint8 [size, size, 3].

    256 and 224 are the usual evaluation on ImageNet. Takes encoded bytes or a uint8 array; an array of the size that it
    gives is taken as cropped. Sets `{key}/present`; an absent image (None) becomes zeros. Resized bilinearly,
    antialiased. Raises UserError as `Image` does.
    """

    key: str = 'image'
    size: int = 224
    resize: int = 256

    def __post_init__(self):
        _check_size(self, self.size)
        if self.resize < self.size:
            raise UserError(f'CentralCrop.resize is {self.resize}, smaller than the crop of size {self.size}')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        value = example[self.key]
        if isinstance(value, np.ndarray) and value.shape == (self.size, self.size, 3) and value.dtype == np.uint8:
            # Of a random crop, which has said whether the image is there.
            return {self.key: value, f'{self.key}/present': example.get(f'{self.key}/present', np.bool_(True))}
        image = _rgb(self, value)
        if image is None:
            return _entries(self, None)
        scale = self.resize / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        resized = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
        left, upper = (width - self.size) // 2, (height - self.size) // 2
        return _entries(self, np.asarray(resized.crop((left, upper, left + self.size, upper + self.size))))


def _check_size(transform: RandomCrop | CentralCrop, size: int) -> None:
    if size < 1:
        raise UserError(f'{type(transform).__name__}.size is {size}: use a positive number of pixels')


def _rgb(transform: RandomCrop | CentralCrop, value: Any) -> PIL.Image.Image | None:
    return None if value is None else decode(value, key=transform.key, asker=type(transform).__name__).convert('RGB')


def _entries(transform: RandomCrop | CentralCrop, pixels: UInt8[np.ndarray, 'h w 3'] | None) -> Example:
    key, size = transform.key, transform.size
    there = pixels is not None
    return {key: pixels if there else np.zeros((size, size, 3), np.uint8), f'{key}/present': np.bool_(there)}
