import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.data import DropModality, Image, RandomFlip, RandomShift, Standardize, Transform, Words
from mmjax.data.base import apply
from mmjax.data.transforms import MAX_PIXELS, prepare, shifted
from mmjax.errors import UserError

GRADIENT = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], (16, 16, 3)).copy()


def encoded(pixels, kind='png'):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_png_of_the_right_size_is_decoded_exactly():
    example = Image(size=16)({'image': encoded(GRADIENT)})
    np.testing.assert_array_equal(example['image'], GRADIENT)
    assert example['image/present'] == np.True_


def test_jpeg_resize_and_grey():
    image = Image(size=8, channels=1)({'image': encoded(GRADIENT, 'jpeg')})['image']
    assert image.shape == (8, 8, 1) and image.dtype == np.uint8
    # Antialiased halving of a ramp: each new row is near the mean of the two that it covers.
    np.testing.assert_allclose(image[1:-1, :, 0], GRADIENT.reshape(8, 2, 8, 2, 3).mean((1, 3, 4))[1:-1], atol=3)


@pytest.mark.parametrize('shape', [(16, 16), (16, 16, 1), (16, 16, 3)])
def test_arrays(shape):
    value = np.full(shape, 77, np.uint8)
    assert (Image(size=4)({'image': value})['image'] == 77).all()
    assert Image(size=4, channels=1)({'image': value})['image'].shape == (4, 4, 1)


def test_absent_image_is_zeros():
    example = Image('photo', size=4)({'photo': None})
    assert example['photo'].shape == (4, 4, 3) and not example['photo'].any()
    assert example['photo/present'] == np.False_


def png_that_claims(width, height):
    """A PNG of a few bytes whose header claims a huge image."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize(
    'value, message',
    [
        (b'GIF87 not really', 'is not a readable image'),
        (encoded(GRADIENT)[:60], 'is not a readable image'),
        (png_that_claims(10_000, 10_000), f'10000x10000 pixels, more than the {MAX_PIXELS:,}'),
        (png_that_claims(60_000, 60_000), 'is not a readable image'),  # Pillow's own limit comes first
        ('photo.png', "'image' is str"),
        (np.zeros((4, 4, 3), np.float32), r'array of float32 \[4, 4, 3\]'),
        (np.zeros((4, 4, 2), np.uint8), r'uint8 \[4, 4, 2\]'),
    ],
)
def test_bad_images_are_told(value, message):
    with pytest.raises(UserError, match=message):
        Image()({'image': value})


def test_bad_settings_are_told():
    with pytest.raises(UserError, match=r'Image.channels is 4'):
        Image(channels=4)
    with pytest.raises(UserError, match=r'Image.size is 0'):
        Image(size=0)
    with pytest.raises(UserError, match=r"rates\['text'\] is 1.5"):
        DropModality({'text': 1.5})


def test_flip_mirrors_half_of_the_images():
    image = rng().integers(0, 256, (4, 6, 3), np.uint8)
    source = rng(1)
    results = [RandomFlip()({'image': image}, source)['image'] for _ in range(400)]
    flipped = [np.array_equal(result, image[:, ::-1]) for result in results]
    assert all(flip or np.array_equal(result, image) for flip, result in zip(flipped, results, strict=True))
    assert 150 < sum(flipped) < 250


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-8, 8), st.integers(-8, 8))
def test_shift_against_its_definition(height, width, down, right):
    image = rng().integers(0, 256, (height, width, 2), np.uint8)
    moved = shifted(image, down, right)
    for y in range(height):
        for x in range(width):
            source = image[min(max(y - down, 0), height - 1), min(max(x - right, 0), width - 1)]
            assert (moved[y, x] == source).all()


def test_shift_reaches_every_place_as_often():
    image = np.zeros((9, 9, 1), np.uint8)
    image[4, 4] = 1
    source = rng(2)
    total = sum(RandomShift(pixels=1)({'image': image}, source)['image'].astype(int) for _ in range(1800))
    assert (total[3:6, 3:6] > 140).all() and total[3:6, 3:6].sum() == 1800


def test_drop_has_the_rates_that_it_states_and_spares_one():
    drop = DropModality({'image': 0.5, 'text': 0.2})
    source = rng(3)
    example = {'image/present': np.True_, 'text/present': np.True_, 'audio/present': np.True_}
    results = [drop(example, source) for _ in range(4000)]
    assert all(result['image/present'] or result['text/present'] for result in results)
    assert all(result['audio/present'] for result in results)
    for name, rate in (('image', 0.5 - 0.5 * 0.2 / 2), ('text', 0.2 - 0.5 * 0.2 / 2)):
        dropped = np.mean([not result[f'{name}/present'] for result in results])
        assert abs(dropped - rate) < 0.03, name


def test_drop_spares_the_only_one_that_is_there():
    drop = DropModality({'image': 1.0, 'text': 1.0})
    result = drop({'image/present': np.False_, 'text/present': np.True_}, rng())
    assert not result['image/present'] and result['text/present']
    nothing = drop({'image/present': np.False_, 'text/present': np.False_}, rng())
    assert not nothing['image/present'] and not nothing['text/present']


def test_drop_of_an_unknown_modality_is_told():
    with pytest.raises(UserError, match=r"no 'imag/present'.*modalities there: image; did you mean 'image'"):
        DropModality({'imag': 0.5})({'image/present': np.True_}, rng())


def test_prepare_leaves_the_random_ones_out():
    transforms = (
        Image(size=16),
        RandomFlip(),
        RandomShift(),
        Words(('red',), 2),
        DropModality({'image': 1.0, 'text': 1.0}),
    )
    example = prepare({'image': encoded(GRADIENT), 'text': 'red', 'answer': 3}, transforms)
    np.testing.assert_array_equal(example['image'], GRADIENT)
    assert example['text'].tolist() == [2, 0]
    assert example['answer'] == 3 and example['image/present'] and example['text/present']


def test_a_keyed_transform_sees_its_own_modality_alone():
    class Spy(Transform):
        key = 'image'

        def __call__(self, example, rng=None):
            self.seen = sorted(example)
            return {'image': 'seen'}

    spy, example = Spy(), {'image': 1, 'image/present': True, 'images': 2, 'text': 'a'}
    assert apply(spy, example) == example | {'image': 'seen'}
    assert spy.seen == ['image', 'image/present']
    assert example['image'] == 1
    with pytest.raises(UserError, match="Image: examples have no 'image'; they have imago, text; did you mean 'imago'"):
        apply(Image(), {'imago': b'', 'text': ''})


def test_standardize_has_the_mean_and_deviation_that_it_was_given():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    mean, std = pixels.mean((0, 1)) / 255, pixels.std((0, 1)) / 255
    found = Standardize(mean=tuple(mean.tolist()), std=tuple(std.tolist()))({'image': pixels})['image']
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1)), 1, atol=1e-5)
    halves = Standardize()({'image': np.array([[[0, 51, 255]]], np.uint8)})['image']
    np.testing.assert_allclose(halves, [[[-1, -0.6, 1]]], atol=1e-6)  # what encoders make of bytes by themselves


def test_standardize_leaves_an_absent_image_zero():
    found = Standardize()({'image': np.zeros((2, 2, 3), np.uint8), 'image/present': np.bool_(False)})['image']
    assert found.dtype == np.float32 and not found.any()


@pytest.mark.parametrize(
    ('wrong', 'told'),
    [
        (lambda: Standardize(std=(1.0, 0.0, 1.0)), 'std above 0'),
        (lambda: Standardize(mean=(0.5,)), 'one of each for every channel'),
        (lambda: Standardize(mean=(127.0,), std=(1.0,)), 'means from 0 to 1'),
        (lambda: Standardize(mean=(), std=()), 'one of each'),
        (
            lambda: Standardize()({'image': np.zeros((2, 2, 1), np.uint8)}),
            r'\[2, 2, 1\]; it takes uint8 \[h, w, 3\]',
        ),
        (lambda: Standardize()({'image': np.zeros((2, 2, 3), np.float32)}), "'image' is float32"),
        (lambda: Standardize()({'image': b'png'}), "'image' is bytes; it takes uint8"),
        (lambda: Standardize()({'image': None}), "'image' is NoneType; it takes uint8"),
    ],
)
def test_standardize_says_what_it_cannot_take(wrong, told):
    with pytest.raises(UserError, match=told):
        wrong()
