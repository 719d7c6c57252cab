"""Crops against a NumPy bilinear resampling of our own, and against the shares and ratios that they state."""

import io
import math

import numpy as np
import PIL.Image
import pytest

from mmjax.data import CentralCrop, RandomCrop, RandomFlip
from mmjax.data.crops import TRIES
from mmjax.data.transforms import prepare
from mmjax.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'png')
    return file.getvalue()


def weights(old: int, new: int, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    """[new, old]: how much each old pixel counts in a new one. A triangle as wide as the new pixels, at least as the
    old ones, around the middle of the new pixel: bilinear, antialiased."""
    scale = ((old if stop is None else stop) - start) / new
    support = max(scale, 1.0)
    middles = start + (np.arange(new) + 0.5) * scale
    triangle = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - middles[:, None]) / support)
    return triangle / triangle.sum(axis=1, keepdims=True)


def resampled(pixels, height, width):
    down, across = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    return np.einsum('yi,ijc,xj->yxc', down, pixels.astype(float), across)


@pytest.mark.parametrize('shape', [(40, 64), (64, 40), (50, 50), (10, 17)])
def test_central_crop_against_numpy(shape):
    """Of wide, high and square images, larger and smaller than what is asked for."""
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    found = CentralCrop(size=14, resize=16)({'image': encoded(pixels)})
    scale = 16 / min(shape)
    whole = resampled(pixels, round(shape[0] * scale), round(shape[1] * scale))
    top, left = ((side - 14) // 2 for side in whole.shape[:2])
    assert found['image'].shape == (14, 14, 3) and found['image'].dtype == np.uint8 and found['image/present']
    np.testing.assert_allclose(found['image'], whole[top : top + 14, left : left + 14], atol=1.1)  # rounded twice


def test_random_crop_is_the_box_that_it_draws_resized():
    crop = RandomCrop(size=12)
    for seed in range(5):
        left, upper, right, lower = crop.box(64, 40, np.random.default_rng(seed))
        found = crop({'image': encoded(NOISE)}, np.random.default_rng(seed))
        assert found['image'].shape == (12, 12, 3) and found['image/present']
        np.testing.assert_allclose(found['image'], resampled(NOISE[upper:lower, left:right], 12, 12), atol=1.1)


def test_boxes_have_the_areas_and_ratios_that_are_stated():
    crop, rng = RandomCrop(area=(0.1, 0.6), aspect=(0.5, 2.0)), np.random.default_rng(0)
    boxes = np.array([crop.box(400, 300, rng) for _ in range(3000)])
    left, upper, right, lower = boxes.T
    assert (left >= 0).all() and (upper >= 0).all() and (right <= 400).all() and (lower <= 300).all()
    width, height = right - left, lower - upper
    area, aspect = width * height / (400 * 300), width / height
    assert 0.098 < area.min() < 0.12 and 0.55 < area.max() < 0.603
    assert 0.49 < aspect.min() < 0.52 and 1.9 < aspect.max() < 2.03
    assert abs(np.log(aspect[area < 0.2]).mean()) < 0.05  # as often wide as high, where both fit
    assert abs(np.quantile(area[(aspect > 0.9) & (aspect < 1.1)], 0.5) - 0.35) < 0.04
    small = area < 0.15  # such boxes reach every place
    assert left[small].min() < 8 and right[small].max() > 392 and upper[small].min() < 8 and lower[small].max() > 292


def test_an_image_into_which_no_box_fits_is_taken_whole():
    assert RandomCrop(area=(0.9, 1.0)).box(1000, 10, np.random.default_rng(0)) == (0, 0, 1000, 10)
    draws = np.random.default_rng(0)
    RandomCrop(area=(0.9, 1.0)).box(1000, 10, draws)
    again = np.random.default_rng(0)
    again.uniform(size=2 * TRIES)
    assert draws.random() == again.random()


def test_the_central_crop_lets_a_random_crop_through_and_takes_its_place_in_evaluation():
    transforms = (RandomCrop(size=14), RandomFlip(), CentralCrop(size=14, resize=16))
    cropped = RandomCrop(size=14)({'image': encoded(NOISE)}, np.random.default_rng(3))
    assert CentralCrop(size=14, resize=16)(cropped)['image'] is cropped['image']
    evaluated = prepare({'image': encoded(NOISE)}, transforms)
    np.testing.assert_array_equal(
        evaluated['image'], CentralCrop(size=14, resize=16)({'image': encoded(NOISE)})['image']
    )
    # Encoded, an image of that very size is resized as any other.
    small = np.ascontiguousarray(NOISE[:14, :14])
    assert not np.array_equal(CentralCrop(size=14, resize=16)({'image': encoded(small)})['image'], small)


@pytest.mark.parametrize('transform', [RandomCrop('photo', size=4), CentralCrop('photo', size=4, resize=5)])
def test_absent_and_damaged_images(transform):
    rng = np.random.default_rng(0)
    absent = transform({'photo': None}, rng)
    assert absent['photo'].shape == (4, 4, 3) and not absent['photo'].any() and not absent['photo/present']
    with pytest.raises(UserError, match=f"{type(transform).__name__}: 'photo' .* is not a readable image"):
        transform({'photo': b'none'}, rng)
    grey = transform({'photo': np.full((9, 7), 77, np.uint8)}, rng)
    assert (grey['photo'] == 77).all()


def test_an_absent_image_stays_absent_through_both():
    rng = np.random.default_rng(0)
    through = CentralCrop(size=4, resize=5)(RandomCrop(size=4)({'image': None}, rng))
    assert not through['image/present'] and not through['image'].any()


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: RandomCrop(size=0), r'RandomCrop.size is 0'),
        (lambda: CentralCrop(size=-1), r'CentralCrop.size is -1'),
        (lambda: CentralCrop(size=224, resize=200), 'resize is 200, smaller than the crop of size 224'),
        (lambda: RandomCrop(area=(0.5, 0.2)), r'area is \(0.5, 0.2\)'),
        (lambda: RandomCrop(area=(0.0, 1.0)), r'area is \(0.0, 1.0\)'),
        (lambda: RandomCrop(aspect=(-1.0, 1.0)), r'aspect is \(-1.0, 1.0\)'),
    ],
)
def test_bad_settings_are_told(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_ratios_are_log_uniform():
    rng, crop = np.random.default_rng(1), RandomCrop(area=(0.01, 0.02), aspect=(0.25, 4.0))
    boxes = np.array([crop.box(3000, 3000, rng) for _ in range(2000)])
    ratios = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])
    for share in (0.25, 0.5, 0.75):
        assert abs(math.log(np.quantile(ratios, share)) - math.log(0.25) * (1 - 2 * share)) < 0.12
