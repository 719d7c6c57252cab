import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import NativePatches
from mmjax.data.batch import stack
from mmjax.data.packing import packed_row
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.native import NativePatchEncoder
from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.places import LearnedPlaces, SinCosPlaces
from mmjax.nn.positions import Learned, SinCos, sincos_table

BLOCK = Block(attention=Attention(heads=2))
PATCHES = NativePatches(patch=4, most=12)
SIZES = ((8, 8), (8, 20), (12, 12), None)  # 4, 10 and 9 patches, and no image


def images():
    rng = np.random.default_rng(0)
    return [size and rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def examples():
    return [PATCHES({'image': image}) for image in images()]


def arguments(batch):
    """What the model gives to the encoder."""
    b = batch['image'].shape[0]
    marks = {m: jnp.asarray(batch[f'image/{m}']) for m in NativePatchEncoder.marks if f'image/{m}' in batch}
    return (jnp.asarray(batch['image']), jnp.asarray(batch.get('image/present', np.ones(b, bool)))), marks


def encoded(encoder, params, batch):
    given, marks = arguments(batch)
    return jax.jit(lambda *given, **marks: encoder.apply(params, *given, train=False, **marks))(*given, **marks)


@pytest.fixture(scope='module')
def native(random_parameters):
    encoder = NativePatchEncoder(width=16, depth=1, block=BLOCK, places=LearnedPlaces(rows=3, columns=3))
    given, marks = arguments(stack(examples()))
    return encoder, random_parameters(encoder, *given, train=False, **marks)


def test_a_square_image_is_what_the_patch_encoder_makes_of_it(native):
    """Nine patches, with the same parameters: those of `PatchEncoder`, name by name."""
    encoder, params = native
    usual = PatchEncoder(width=16, patch=4, depth=1, block=BLOCK, positions=Learned())
    pixels, there = jnp.asarray(images()[2])[None], jnp.ones(1, bool)
    expected = usual.apply(params, pixels, there, train=False).values[0]
    found = encoded(encoder, params, stack(examples()))
    np.testing.assert_allclose(found.values[2, :9], expected, atol=2e-5)
    assert found.mask.sum(axis=1).tolist() == [4, 10, 9, 0]
    init = jax.eval_shape(lambda: nn.meta.unbox(usual.init(jax.random.key(0), pixels, there, train=False)))
    assert jax.tree.map(jnp.shape, init) == jax.tree.map(jnp.shape, params)


def test_images_of_several_shapes_in_one_row_are_what_they_are_alone(native):
    encoder, params = native
    apart = encoded(encoder, params, stack(examples()))
    row = packed_row(examples(), lengths={'image': 26}, items={})
    together = encoded(encoder, params, stack([row]))
    expected = np.concatenate([np.asarray(apart.values[i, :count]) for i, count in enumerate((4, 10, 9))])
    np.testing.assert_allclose(together.values[0, :23], expected, atol=2e-5)
    assert together.mask[0].tolist() == [True] * 23 + [False] * 3


def places_added(module, yx, grid, params=None):
    x = jnp.zeros((1, len(yx), 8))
    return np.asarray(module.apply(params or {}, x, jnp.array([yx]), jnp.array([grid])))[0]


def test_sines_are_those_of_the_usual_grid():
    yx = [[y, x] for y in range(3) for x in range(5)]
    table = places_added(SinCosPlaces(), yx, [[3, 5]] * 15)
    np.testing.assert_allclose(table, sincos_table((3, 5), width=8), atol=1e-6)
    np.testing.assert_allclose(table, SinCos().apply({}, jnp.zeros((1, 15, 8)), (3, 5))[0], atol=1e-6)
    with pytest.raises(UserError, match='width 6 does not divide by 4'):
        SinCosPlaces().apply({}, jnp.zeros((1, 1, 6)), jnp.zeros((1, 1, 2), int), jnp.ones((1, 1, 2), int))


@pytest.mark.parametrize('grid', [(6, 4), (9, 3), (1, 8), (3, 2)])
def test_learned_places_are_a_bilinear_resize_of_their_grid(grid):
    table = np.random.default_rng(0).standard_normal((6, 8))
    yx = [[y, x] for y in range(grid[0]) for x in range(grid[1])]
    params = {'params': {'embedding': jnp.asarray(table, jnp.float32)}}
    found = places_added(LearnedPlaces(rows=3, columns=2), yx, [grid] * len(yx), params)
    expected = jax.image.resize(table.reshape(3, 2, 8), (*grid, 8), 'bilinear', antialias=False)
    np.testing.assert_allclose(found, expected.reshape(-1, 8), atol=1e-5)


def test_patches_without_places_are_told():
    with pytest.raises(UserError, match='give the images the transform NativePatches'):
        NativePatchEncoder(width=8, depth=0).init(
            jax.random.key(0), jnp.zeros((1, 2, 12)), jnp.ones(1, bool), train=False
        )
