"""Colours against NumPy and colorsys."""

import colorsys

import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter

from mmjax.data import ColorJitter, RandomBlur, RandomGrey
from mmjax.data.color import turned
from mmjax.errors import UserError
from tests.data.test_crops import NOISE


def changed(transform, seed=0, image=NOISE):
    return transform({'image': image}, np.random.default_rng(seed))['image']


def grey(pixels):
    return pixels @ np.array([0.299, 0.587, 0.114])


def fitted(found, start):
    """The factor by which what lies around `start` was stretched, from pixels that were not clipped."""
    away, now = NOISE - start, found - start
    inside = (found > 0) & (found < 255) & (np.abs(away) > 30)
    factors = now[inside] / away[inside]
    np.testing.assert_allclose(factors, np.median(factors), atol=0.06)  # rounded to whole numbers
    return np.median(factors)


@pytest.mark.parametrize(
    ('what', 'start'),
    [
        ('brightness', np.zeros(())),
        ('contrast', np.round(grey(NOISE).mean())),
        ('saturation', np.round(grey(NOISE))[..., None]),
    ],
)
def test_jitter_stretches_around_black_grey_and_the_pixels_own_grey(what, start):
    factors = [fitted(changed(ColorJitter(**{what: 0.5}), seed).astype(float), start) for seed in range(40)]
    assert 0.47 < min(factors) < 0.65 and 1.35 < max(factors) < 1.53
    assert 0.85 < np.mean(factors) < 1.15


def test_factors_are_not_below_zero():
    brightest = [changed(ColorJitter(brightness=4.0), seed, NOISE // 8).max() for seed in range(60)]
    assert min(brightest) < 31 < max(brightest)  # darker and brighter; a factor below 0 would leave it black
    assert sum(value == 0 for value in brightest) < 3


def test_hue_against_colorsys():
    found = np.asarray(turned(PIL.Image.fromarray(NOISE), 0.25))
    for before, after in zip(NOISE.reshape(-1, 3)[:500] / 255, found.reshape(-1, 3)[:500] / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((hue + 0.25) % 1, saturation, value), atol=0.04)


def test_grey_keeps_the_luma_alone():
    found = changed(RandomGrey(share=1.0))
    np.testing.assert_allclose(found, np.repeat(grey(NOISE)[..., None], 3, axis=-1), atol=1)


def test_blur_is_gaussian():
    """Pillow's is a few box blurs, which come near it."""
    found = changed(RandomBlur(share=1.0, radius=(2.0, 2.0))).astype(float)
    wanted = gaussian_filter(NOISE.astype(float), sigma=(2, 2, 0), mode='nearest')
    np.testing.assert_allclose(found[6:-6, 6:-6], wanted[6:-6, 6:-6], atol=6)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98


@pytest.mark.parametrize('transform', [ColorJitter(share=0.3, hue=0.5), RandomGrey(share=0.3), RandomBlur(share=0.3)])
def test_a_share_of_the_images_is_changed_the_same_by_the_same_draws(transform):
    images = [changed(transform, seed) for seed in range(300)]
    assert 0.2 < np.mean([(image != NOISE).any() for image in images]) < 0.4
    np.testing.assert_array_equal(images[7], changed(transform, 7))
    assert all(image.dtype == np.uint8 and image.shape == NOISE.shape for image in images)


def test_an_absent_image_stays_as_it_is():
    absent = {'image': np.zeros((4, 4, 3), np.uint8), 'image/present': np.bool_(False)}
    found = ColorJitter(brightness=0.5)(absent, np.random.default_rng(0))
    assert not found['image'].any()


@pytest.mark.parametrize(
    ('wrong', 'told'),
    [
        (lambda: ColorJitter(brightness=-1.0), 'ColorJitter.brightness is -1.0'),
        (lambda: ColorJitter(hue=0.6), 'ColorJitter.hue is 0.6'),
        (lambda: RandomGrey(share=2.0), 'RandomGrey.share is 2.0'),
        (lambda: RandomBlur(radius=(2.0, 1.0)), r'RandomBlur.radius is \(2.0, 1.0\)'),
        (lambda: changed(RandomGrey(), image=NOISE[..., :1]), "'image' has 1 channels"),
    ],
)
def test_what_makes_no_sense_is_told(wrong, told):
    with pytest.raises(UserError, match=told):
        wrong()
