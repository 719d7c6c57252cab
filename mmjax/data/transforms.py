"""Transforms of images and of whole examples. Text has its own file, `tokenizer.py`."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from mmjax.data.base import Example, Feed, Transform, apply
from mmjax.errors import BadExample, UserError, nearest

warnings.filterwarnings('ignore', category=PIL.Image.DecompressionBombWarning)  # of more than `decode` takes anyway

MAX_PIXELS = 50_000_000
"""Larger images are refused by their header: a few bytes of PNG can claim gigabytes."""


@dataclass(frozen=True)
class Image(Transform):
    """Decodes and resizes an image: PNG or JPEG bytes, or uint8 [h, w] or [h, w, c], to uint8 [size, size, channels].

    The image is stretched to a square, antialiased. `channels` is 1 (grey) or 3 (RGB). Sets `{key}/present`; an
    absent image (None) becomes zeros. Raises BadExample for bytes that are no image and for more than `MAX_PIXELS`.
    """

    key: str = 'image'
    size: int = 64
    channels: int = 3

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise UserError(f'Image.channels is {self.channels}: use 1 (grey) or 3 (RGB)')
        if self.size < 1:
            raise UserError(f'Image.size is {self.size}: use a positive number of pixels')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        value = example[self.key]
        shape = (self.size, self.size, self.channels)
        if value is None:
            return {self.key: np.zeros(shape, np.uint8), f'{self.key}/present': np.bool_(False)}
        if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == np.uint8:
            pixels = value
        else:
            image = decode(value, key=self.key, asker='Image').convert('L' if self.channels == 1 else 'RGB')
            if image.size != shape[:2]:
                image = image.resize(shape[:2], PIL.Image.Resampling.BICUBIC)
            pixels = np.asarray(image).reshape(shape)
        return {self.key: pixels, f'{self.key}/present': np.bool_(True)}


def decode(value: Any, *, key: str, asker: str) -> PIL.Image.Image:
    """PNG or JPEG bytes, or uint8 [h, w] or [h, w, c], as a Pillow image.

    Raises:
        BadExample: in the name of `asker`, for anything else, bytes that are no image, more than `MAX_PIXELS`.
    """
    if isinstance(value, np.ndarray):
        pixels = value[..., 0] if value.ndim == 3 and value.shape[-1] == 1 else value
        if value.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
            raise BadExample(
                f"{asker}: '{key}' is an array of {value.dtype} {list(value.shape)}; "
                'it takes encoded bytes, or uint8 [h, w], [h, w, 1] or [h, w, 3]',
                reason='no image',
            )
        return PIL.Image.fromarray(pixels)
    if not isinstance(value, bytes):
        told = f"{asker}: '{key}' is {type(value).__name__}; it takes encoded bytes or a uint8 array"
        raise BadExample(told, reason='no image')
    try:
        image = PIL.Image.open(io.BytesIO(value))
        if image.width * image.height <= MAX_PIXELS:
            image.load()
    except PIL.Image.DecompressionBombError as error:
        told = f"{asker}: '{key}' ({len(value)} bytes) is not a readable image: {error}"
        raise BadExample(told, reason='too many pixels') from error
    except MemoryError:
        raise
    except Exception as error:  # of Pillow's readers, each of which has kinds of its own
        why = re.sub(' <.*>', '', str(error))  # the address of an object, another each time
        told = f"{asker}: '{key}' ({len(value)} bytes) is not a readable image: {why}"
        raise BadExample(told, reason='unreadable image') from error
    if image.width * image.height > MAX_PIXELS:
        raise BadExample(
            f"{asker}: '{key}' has {image.width}x{image.height} pixels, more than the {MAX_PIXELS:,} allowed; "
            'scale it down first',
            reason='too many pixels',
        )
    return image


@dataclass(frozen=True)
class Standardize(Transform):
    """(x / 255 - mean) / std, channel by channel, uint8 [h, w, c] to float32; an absent image stays zeros.

    Encoders take bytes to -1..1 by themselves; this is for images that are mostly of one colour, and for weights that
    were trained with the mean and deviation of a set, such as CLIP's. Comes after the transforms of bytes; what counts
    in bytes, such as the level of a view `Noise`, counts in units of std after it. Kept examples (`Data.cache`) take
    four times the room of bytes.

    mean, std: of each channel, as shares of 255.

    Raises:
        UserError: on other means than shares, or what is no uint8 image of so many channels.
    """

    key: str = 'image'
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        right = len(self.mean) == len(self.std) > 0 and all(std > 0 for std in self.std)
        if not right or not all(0 <= mean <= 1 for mean in self.mean):
            raise UserError(
                f'Standardize: mean {self.mean}, std {self.std}; give one of each for every channel, means from 0 to 1 '
                'and std above 0'
            )

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        image, channels = example[self.key], len(self.mean)
        pixels = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
        if not pixels or image.shape[-1] != channels:
            told = f'{image.dtype} {list(image.shape)}' if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(
                f"Standardize: '{self.key}' is {told}; it takes uint8 [h, w, {channels}], after the transform that "
                'gives an image its size, in evaluation too'
            )
        mean, std = (np.array(x, np.float32) for x in (self.mean, self.std))
        there = example.get(f'{self.key}/present', True)
        return {self.key: (image / np.float32(255) - mean) / std if there else np.zeros(image.shape, np.float32)}


@dataclass(frozen=True)
class RandomFlip(Transform):
    """Mirrors an image left to right, every other time. Takes [h, w, c]."""

    key: str = 'image'
    random: ClassVar[bool] = True

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        image = example[self.key]
        return {self.key: image[:, ::-1] if rng.random() < 0.5 else image}


@dataclass(frozen=True)
class RandomShift(Transform):
    """Moves an image by up to `pixels` along each axis, whole pixels, each amount as likely. Takes [h, w, c].

    What comes in at an edge repeats the edge.
    """

    key: str = 'image'
    pixels: int = 4
    random: ClassVar[bool] = True

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        down, right = rng.integers(-self.pixels, self.pixels, size=2, endpoint=True).tolist()
        return {self.key: shifted(example[self.key], down, right)}


def shifted(image: UInt8[np.ndarray, 'h w c'], down: int, right: int) -> UInt8[np.ndarray, 'h w c']:
    """The image moved down and to the right (up and to the left where negative), its edges repeated."""
    height, width, _ = image.shape
    rows = np.arange(height) - down
    moved = image.take(rows, axis=0, mode='clip')
    out = np.empty_like(moved)
    right = max(-width, min(width, right))
    if right >= 0:
        out[:, right:], out[:, :right] = moved[:, : width - right], moved[:, :1]
    else:
        out[:, :right], out[:, right:] = moved[:, -right:], moved[:, -1:]
    return out


@dataclass(frozen=True)
class DropModality(Transform):
    """Marks modalities as absent at random: `rates={'image': 0.1, 'text': 0.1}` sets `image/present` False in 10 %.

    Of the modalities that it names, one that is present always stays: where all would go, one drawn at random is
    kept, so with n modalities of rates r the rate of each is r_i - (r_1 … r_n) / n.
    """

    rates: dict[str, float]
    random: ClassVar[bool] = True

    def __post_init__(self):
        for name, rate in self.rates.items():
            if not 0 <= rate <= 1:
                raise UserError(f"DropModality.rates['{name}'] is {rate}: use a probability from 0 to 1")

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        assert rng is not None
        names = list(self.rates)
        for name in names:
            if f'{name}/present' not in example:
                have = [key.removesuffix('/present') for key in example if key.endswith('/present')]
                raise UserError(
                    f"DropModality: no '{name}/present' in the examples; modalities there: {', '.join(have) or 'none'}"
                    f'{nearest(name, have)}'
                )
        draws = rng.random(len(names) + 1).tolist()
        present = [name for name in names if example[f'{name}/present']]
        kept = [name for name, draw in zip(names, draws, strict=False) if draw >= self.rates[name] and name in present]
        if present and not kept:
            kept = [present[int(draws[-1] * len(present))]]
        return example | {f'{name}/present': np.bool_(name in kept) for name in names}


@dataclass(frozen=True)
class Absent(Transform):
    """Adds modalities that a source lacks, as absent: before the transforms that give them their shape.

    So that text alone can be mixed with images and text, see `Mixture`.
    """

    keys: tuple[str, ...]

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        for key in self.keys:
            if key in example:
                raise UserError(f"Absent: examples have a field '{key}'; leave it out of Absent.keys")
        return example | dict.fromkeys(self.keys)


def transforms_of(data: Feed) -> tuple[Transform, ...]:
    """The transforms that give the model's fields; of a mixture, those of its first source."""
    return next(iter(data.parts.values())).transforms


def prepare(example: Example, transforms: Sequence[Transform]) -> Example:
    """The example after the transforms that are not random, as evaluation sees it. For input typed in by a user."""
    for transform in transforms:
        if not transform.random:
            example = apply(transform, example)
    return example
