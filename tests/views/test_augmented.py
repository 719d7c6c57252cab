"""Random crops and colours on the device, against NumPy, SciPy and a picture that says where it was cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from mmjax.errors import UserError
from mmjax.sharding import MeshShape, place_batch
from mmjax.views.augmented import Cropped, Recolored, _turned
from mmjax.views.redrawn import Redrawn
from mmjax.views.together import Together

SIDE, ROWS = 32, 64
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])
PLAIN = {'share': 1.0, 'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0, 'hue': 0.0, 'grey': 0.0}


def seen(view, image=NOISE, rows=ROWS, seed=0):
    batch = {'image': jnp.asarray(np.repeat(image[None], rows, axis=0)), 'weight': jnp.ones(rows)}
    found = jax.jit(view)(batch, jax.random.key(seed))['image']
    assert found.dtype == jnp.uint8 and found.shape == batch['image'].shape
    return np.asarray(found).astype(float)


def recolored(**changes):
    return Recolored(**(PLAIN | changes))


def plane():
    """Red is 8 y, green 8 x: bilinear, whatever part of it is taken."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([8 * y, 8 * x, 0 * x], axis=-1).astype(np.uint8)


def boxes(view, rows=400):
    """Top, left, height, width of the parts, from the slopes inside of them."""
    found, inner = seen(view, plane(), rows), slice(4, -4)
    y, x = found[..., 0].mean(axis=2) / 8, found[..., 1].mean(axis=1) / 8
    places = np.arange(SIDE)[inner] + 0.5
    fits = [[np.polyfit(places, row[inner], 1) for row in axis] for axis in (y, x)]
    slopes, starts = np.moveaxis(np.array(fits), -1, 0)
    return (starts + 0.5).T, (slopes * SIDE).T


def test_crops_have_their_areas_shapes_and_places():
    starts, sizes = boxes(Cropped(area=(0.25, 0.5), aspect=(0.8, 1.25)))
    areas, aspects = sizes.prod(axis=1) / SIDE**2, sizes[:, 1] / sizes[:, 0]
    assert 0.235 < areas.min() < 0.27 and 0.48 < areas.max() < 0.52
    assert 0.77 < aspects.min() < 0.82 and 1.22 < aspects.max() < 1.29
    assert abs(np.log(aspects).mean()) < 0.02 and areas.mean() == pytest.approx(0.375, abs=0.015)
    free = starts / (SIDE - sizes)  # from 0, at the upper left, to 1
    assert free.min() > -0.05 and free.max() < 1.05 and (abs(free.mean(axis=0) - 0.5) < 0.06).all()
    assert free.min() < 0.05 and free.max() > 0.95


def test_a_part_is_resized_bilinearly():
    """The box is found in the plane and given to SciPy; the draws are those of the key, whatever the image."""
    view = Cropped(area=(0.3, 0.3), aspect=(1.0, 1.0))
    starts, sizes = boxes(view, rows=8)
    for row, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        places = (np.mgrid[:SIDE, :SIDE] + 0.5) * (size / SIDE)[:, None, None] + start[:, None, None] - 0.5
        wanted = [map_coordinates(NOISE[..., c].astype(float), places, order=1, mode='nearest') for c in range(3)]
        found = seen(view, rows=8)[row]
        np.testing.assert_allclose(found, np.stack(wanted, axis=-1), atol=6)  # of 255: the box is only known so well


def test_the_whole_image_is_left_as_it_is():
    np.testing.assert_array_equal(seen(Cropped(area=(1.0, 1.0), aspect=(1.0, 1.0)), rows=2)[0], NOISE)
    np.testing.assert_array_equal(seen(recolored(), rows=2)[1], NOISE)


def fitted(found, start):
    """The factor by which what lies around `start` was stretched, from pixels that were not clipped."""
    away, now = NOISE - start, found - start
    inside = (found > 0) & (found < 255) & (np.abs(away) > 30)
    factors = now[inside] / away[inside]
    np.testing.assert_allclose(factors, np.median(factors), atol=0.04)  # rounded to whole numbers
    return np.median(factors)


@pytest.mark.parametrize(
    ('what', 'start'),
    [
        ('brightness', np.zeros(())),
        ('contrast', (NOISE @ LUMA).mean()),
        ('saturation', (NOISE @ LUMA)[..., None]),
    ],
)
def test_colours_are_stretched_around_black_grey_and_the_pixels_own_grey(what, start):
    factors = [fitted(image, start) for image in seen(recolored(**{what: 0.5}))]
    assert 0.49 < min(factors) < 0.6 and 1.4 < max(factors) < 1.51
    assert 0.9 < np.mean(factors) < 1.1


def test_factors_are_not_below_zero():
    brightest = seen(recolored(brightness=4.0), NOISE // 8).max(axis=(1, 2, 3))
    assert brightest.min() < 31 < brightest.max() and (brightest == 0).sum() < 4


def test_a_turn_keeps_luma_and_saturation_and_a_full_one_everything():
    image = jnp.asarray(NOISE, jnp.float32)
    third = np.asarray(_turned(image, jnp.float32(2 * np.pi / 3)))
    np.testing.assert_allclose(third @ LUMA, NOISE @ LUMA, atol=0.05)
    again = _turned(_turned(jnp.asarray(third), jnp.float32(2 * np.pi / 3)), jnp.float32(2 * np.pi / 3))
    np.testing.assert_allclose(again, NOISE, atol=0.05)
    # red, then green, then blue are the strongest, as on the circle of hues
    red = jnp.asarray([[[200.0, 0.0, 0.0]]])
    strongest = [int(jnp.argmax(_turned(red, jnp.float32(2 * np.pi * i / 3)))) for i in range(3)]
    assert sorted(strongest) == [0, 1, 2]
    hues = seen(recolored(hue=0.5), np.full((2, 2, 3), (200, 80, 80), np.uint8))[:, 0, 0]
    assert {0, 1, 2} == set(hues.argmax(axis=1)) and seen(recolored(hue=0.01)).std(axis=0).mean() < 12


def test_grey_keeps_the_luma_alone_in_its_share_of_the_images():
    wanted = np.repeat((NOISE @ LUMA)[..., None], 3, axis=-1)
    np.testing.assert_allclose(seen(recolored(grey=1.0), rows=1)[0], wanted, atol=0.51)
    images = seen(recolored(grey=0.3), rows=600)
    assert (images == images[..., :1]).all(axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.06)
    jittered = seen(recolored(share=0.3, brightness=0.5), rows=600)
    assert (jittered != NOISE).any(axis=(1, 2, 3)).mean() == pytest.approx(0.3, abs=0.06)


def test_eight_devices_draw_what_one_draws():
    view = Together((Cropped(), Recolored()))
    batch = {'image': np.repeat(NOISE[None], 16, axis=0), 'weight': np.ones(16, np.float32)}
    key, mesh = jax.random.key(4), MeshShape().build()
    alone = jax.jit(view)(batch, key)['image']
    with jax.set_mesh(mesh):
        spread = jax.jit(view)(place_batch(batch, mesh), key)['image']
    np.testing.assert_array_equal(alone, spread)
    again = np.asarray(jax.jit(Redrawn(view))(batch, key)['image'])
    assert len({image.tobytes() for image in (*np.asarray(alone), *again)}) == 32  # all differ, the redrawn too


def test_images_that_share_a_row_have_draws_of_their_own():
    packed = np.repeat(NOISE[None], 12, axis=0).reshape(4, 3, SIDE, SIDE, 3)
    for view in (Cropped(), recolored(brightness=0.5)):
        found = np.asarray(view({'image': jnp.asarray(packed)}, jax.random.key(0))['image'])
        assert found.shape == packed.shape and len({image.tobytes() for image in found.reshape(12, -1)}) == 12


@pytest.mark.parametrize(
    ('wrong', 'told'),
    [
        (lambda: Cropped(area=(0.5, 1.5)), r'Cropped\.area is \(0\.5, 1\.5\)'),
        (lambda: Cropped(aspect=(2.0, 1.0)), r'Cropped\.aspect is \(2\.0, 1\.0\)'),
        (lambda: Recolored(hue=0.6), r'Recolored\.hue is 0\.6: use a share from 0 to 0\.5'),
        (lambda: Recolored(grey=float('nan')), r'Recolored\.grey is nan'),
        (lambda: Recolored(contrast=-1.0), r'Recolored\.contrast is -1\.0: use 0 or more'),
        (lambda: Recolored(brightness=float('nan')), r'Recolored\.brightness is nan'),
        (lambda: seen(Recolored(), NOISE[..., :1]), r"'image' is uint8 \[64, 32, 32, 1\]"),
        (lambda: seen(Cropped(), NOISE.astype(np.float32)), r"'image' is float32"),
        (lambda: Cropped('imge')({'image': jnp.zeros((1, 4, 4, 3))}, jax.random.key(0)), "did you mean 'image'"),
    ],
)
def test_what_makes_no_sense_is_told(wrong, told):
    with pytest.raises(UserError, match=told):
        wrong()
