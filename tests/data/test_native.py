import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.data import NativePatches
from mmjax.data.native import grid_of
from mmjax.errors import UserError

SIDES = st.integers(1, 5000)


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@given(height=SIDES, width=SIDES, patch=st.integers(1, 32), most=st.integers(1, 1024))
def test_a_grid_keeps_the_aspect_ratio_and_is_never_too_large(height, width, patch, most):
    rows, columns = grid_of(height, width, patch=patch, most=most)
    assert rows >= 1 and columns >= 1 and rows * columns <= most
    assert rows <= max(height // patch, 1) and columns <= max(width // patch, 1)  # none is enlarged
    if rows > 1 and columns > 1:  # cut to whole patches from sides in proportion
        assert (rows + 1) / columns > height / width > rows / (columns + 1)
        if height * width > most * patch**2:  # scaled down no further than it must be
            assert (rows + 1) * (columns + 1) > most


@pytest.mark.parametrize(
    ('height', 'width', 'most', 'grid'),
    [(224, 224, 256, (14, 14)), (1024, 1024, 256, (16, 16)), (640, 480, 256, (18, 13)), (16, 4000, 64, (1, 64))],
)
def test_grids_of_usual_images(height, width, most, grid):
    assert grid_of(height, width, patch=16, most=most) == grid


@pytest.mark.parametrize('channels', [1, 3])
def test_patches_are_those_of_the_image_where_each_says_it_stands(channels):
    image = noise(8, 12, channels)
    out = NativePatches(patch=4, most=9, channels=channels)({'image': image})
    assert out['image/grid'][:6].tolist() == [[2, 3]] * 6 and out['image/mask'].tolist() == [True] * 6 + [False] * 3
    for patch, (y, x) in zip(out['image'][:6], out['image/yx'], strict=False):
        expected = image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        np.testing.assert_array_equal(patch.reshape(4, 4, channels), expected)
    assert sorted(map(tuple, out['image/yx'][:6].tolist())) == [(y, x) for y in range(2) for x in range(3)]
    assert not out['image'][6:].any() and out['image/present']


def test_a_large_image_is_scaled_down_without_being_stretched():
    """A circle stays one: it is as wide as it is high."""
    y, x = np.mgrid[:60, :120]
    circle = np.where((y - 30) ** 2 + (x - 60) ** 2 < 25**2, 255, 0).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(circle).save(file, 'png')
    out = NativePatches(patch=2, most=200, channels=1)({'image': file.getvalue()})
    rows, columns = out['image/grid'][0]
    assert (rows, columns) == (10, 20)
    small = np.zeros((2 * rows, 2 * columns))
    for patch, (y, x), real in zip(out['image'], out['image/yx'], out['image/mask'], strict=True):
        if real:
            small[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = patch.reshape(2, 2)
    lit = small > 127
    assert lit.any(axis=1).sum() == lit.any(axis=0).sum() == pytest.approx(50 / 3, abs=1)


def test_an_absent_image_has_no_patch():
    out = NativePatches(patch=4, most=5)({'image': None})
    assert not out['image/mask'].any() and not out['image/present'] and not out['image'].any()
    present = NativePatches(patch=4, most=5)({'image': noise(3, 40)})
    for key, value in present.items():
        assert out[key].shape == value.shape and out[key].dtype == value.dtype


def test_mistakes():
    for fields, message in (
        ({'channels': 2}, 'channels is 2'),
        ({'most': 0}, 'most is 0'),
        ({'patch': 0}, 'patch is 0'),
    ):
        with pytest.raises(UserError, match=message):
            NativePatches(**fields)
    with pytest.raises(UserError, match=r"NativePatches: 'image' is str"):
        NativePatches()({'image': 'a.png'})
