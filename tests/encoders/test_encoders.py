"""Encoders: raw modality to tokens, absence included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.image import ConvEncoder, PatchEncoder, to_float
from mmjax.encoders.learned import LearnedTokens
from mmjax.encoders.text import CausalTokenEncoder, PairEncoder, RecurrentEncoder, TokenEncoder
from mmjax.encoders.vectors import VectorEncoder
from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.entry import Classed
from mmjax.nn.positions import NoPositions, SinCos

BLOCK = Block(attention=Attention(heads=2))
PRESENT = jnp.asarray([True, False, True, True, True, True, True, True])
ALL = jnp.ones(8, bool)
ENCODERS = {
    'patch': ('image', PatchEncoder(width=16, patch=4, depth=1, block=BLOCK)),
    'conv': ('image', ConvEncoder(width=16, channels=(4, 8))),
    'token': ('text', TokenEncoder(vocabulary=11, width=16, depth=1, block=BLOCK)),
    'lstm': ('text', RecurrentEncoder(vocabulary=11, width=16)),
    'bigru': ('text', RecurrentEncoder(vocabulary=11, width=16, cell='gru', bidirectional=True)),
}
each_encoder = pytest.mark.parametrize(('field', 'encoder'), ENCODERS.values(), ids=ENCODERS)


@each_encoder
def test_tokens_of_present_and_absent_examples(random_parameters, batch, field, encoder):
    params = random_parameters(encoder, batch[field], PRESENT, train=False)
    tokens = jax.jit(lambda p: encoder.apply(p, batch[field], PRESENT, train=False))(params)
    assert tokens.values.shape == (8, 4 if field == 'image' else 5, 16) and np.isfinite(tokens.values).all()
    real = np.asarray(batch['text']) != 0 if field == 'text' else np.ones((8, 4), bool)
    np.testing.assert_array_equal(tokens.mask, real & np.asarray(PRESENT)[:, None])


@each_encoder
def test_an_absent_modality_gives_its_encoder_no_gradient(random_parameters, batch, field, encoder):
    params = random_parameters(encoder, batch[field], ALL, train=False)

    @jax.jit
    def gradient(params, present):
        def total(params):
            tokens = encoder.apply(params, batch[field], present, train=False)
            return ((tokens.values + tokens.values**2) * tokens.mask[:, :, None]).sum()

        return jax.grad(total)(params)

    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient(params, ALL)))
    assert any(g.any() for g in jax.tree.leaves(gradient(params, ALL)))
    assert not any(g.any() for g in jax.tree.leaves(gradient(params, ~ALL)))


def test_patches_come_in_raster_order(random_parameters):
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 2)).astype(np.uint8)
    encoder = PatchEncoder(width=16, patch=3, depth=0, positions=NoPositions())
    params = random_parameters(encoder, jnp.asarray(image), jnp.ones(2, bool), train=False)
    kernel, bias = (np.asarray(params['params']['patches'][name], np.float64) for name in ('kernel', 'bias'))
    expected = np.zeros((2, 6, 16))
    for b, row, column in np.ndindex(2, 2, 3):
        numbers = [
            image[b, 3 * row + y, 3 * column + x, c] / 127.5 - 1 for y in range(3) for x in range(3) for c in range(2)
        ]
        expected[b, 3 * row + column] = numbers @ kernel + bias
    found = encoder.apply(params, jnp.asarray(image), jnp.ones(2, bool), train=False)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)


@pytest.mark.parametrize('name', ['patch', 'conv'])
def test_bytes_and_floats_agree(random_parameters, batch, name):
    _, encoder = ENCODERS[name]
    params = random_parameters(encoder, batch['image'], ALL, train=False)
    floats = jnp.asarray(np.asarray(batch['image']) / np.float32(127.5) - 1)
    apply = jax.jit(lambda p, x: encoder.apply(p, x, ALL, train=False).values)
    np.testing.assert_allclose(apply(params, floats), apply(params, batch['image']), atol=1e-5)


def test_bytes_span_minus_one_to_one():
    np.testing.assert_allclose(to_float(jnp.asarray([0, 255], jnp.uint8)), [-1, 1])


@pytest.mark.parametrize('positions', [SinCos(), NoPositions()])
def test_positions_are_a_template(random_parameters, batch, positions):
    encoder = PatchEncoder(width=16, patch=4, depth=0, positions=positions)
    params = random_parameters(encoder, batch['image'], ALL, train=False)
    assert set(params['params']) == {'patches'}


@pytest.mark.parametrize('name', ['token', 'bigru'])
def test_words_after_the_end_change_nothing(random_parameters, batch, name):
    _, encoder = ENCODERS[name]
    text = batch['text']
    params = random_parameters(encoder, text, ALL, train=False)
    apply = jax.jit(lambda p, x: encoder.apply(p, x, jnp.ones(x.shape[0], bool), train=False).values)
    longer = jnp.pad(text, ((0, 0), (0, 2)))
    if name == 'token':  # one learned position for each of the two further columns
        table = params['params']['place']['embedding']
        padded = {'params': {**params['params'], 'place': {'embedding': jnp.pad(table, ((0, 2), (0, 0)))}}}
    else:
        padded = params
    np.testing.assert_allclose(apply(padded, longer)[:, :5][text != 0], apply(params, text)[text != 0], atol=1e-5)


def test_vectors_are_a_set_unless_they_have_positions(random_parameters):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 6, 9)), jnp.float32)
    order = np.array([3, 0, 5, 1, 4, 2])
    for positions, same in ((NoPositions(), True), (SinCos(), False)):
        encoder = VectorEncoder(width=16, positions=positions)
        params = random_parameters(encoder, x, PRESENT, train=False)
        tokens = encoder.apply(params, x, PRESENT, train=False)
        kernel, bias = (params['params']['project'][name] for name in ('kernel', 'bias'))
        if same:
            np.testing.assert_allclose(tokens.values, np.asarray(x) @ kernel + bias, atol=1e-5)
        moved = encoder.apply(params, x[:, order], PRESENT, train=False).values
        assert np.allclose(moved, tokens.values[:, order], atol=1e-5) == same
        np.testing.assert_array_equal(tokens.mask, np.repeat(np.asarray(PRESENT)[:, None], 6, axis=1))


def test_learned_tokens_are_the_same_for_all_and_always_there(random_parameters):
    encoder = LearnedTokens(width=16, length=2)
    params = random_parameters(encoder, None, ~ALL, train=False)
    tokens = encoder.apply(params, None, ~ALL, train=False)
    assert tokens.mask.all() and tokens.values.shape == (8, 2, 16)
    np.testing.assert_array_equal(tokens.values[3], params['params']['embedding'])


def test_image_that_is_not_made_of_patches(batch):
    with pytest.raises(UserError, match='8x8 pixels is not made of patches of 3'):
        PatchEncoder(patch=3).init(jax.random.key(0), batch['image'], ALL, train=False)


def test_in_a_causal_encoder_later_ids_change_nothing(random_parameters, batch):
    encoder = CausalTokenEncoder(vocabulary=11, width=16, depth=1, block=BLOCK)
    params = random_parameters(encoder, batch['text'], ALL, train=False)
    tokens = encoder.apply(params, batch['text'], ALL, train=False)
    changed = encoder.apply(params, batch['text'].at[:, 3:].set(7), ALL, train=False)
    assert tokens.causal.all()
    prefix = jnp.zeros_like(tokens.causal)
    assert not encoder.apply(params, batch['text'], ALL, train=False, causal=prefix).causal.any()
    np.testing.assert_array_equal(changed.values[:, :3], tokens.values[:, :3])
    assert (changed.values[0, 3:] != tokens.values[0, 3:]).any()


def test_each_text_of_a_pair_has_a_vector_of_its_own(random_parameters):
    """The last row is packed: two examples, each with a first and a second text."""
    ids = jnp.asarray([[5, 3, 5, 5, 5, 5], [5, 5, 3, 3, 5, 0], [5, 3, 5, 5, 3, 5]])
    positions = jnp.asarray([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2]])
    encoder = PairEncoder(vocabulary=11, width=16, depth=0, positions=NoPositions(), separator=3)
    params = random_parameters(encoder, ids, ALL[:3], train=False)
    expected = np.array([[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1]])
    for marks, rows in (({}, slice(2)), ({'positions': positions}, slice(3))):
        found = encoder.apply(params, ids, ALL[:3], train=False, **marks).values
        added = found - params['params']['embed']['embedding'][ids]
        np.testing.assert_allclose(added[rows], params['params']['types'][expected][rows], atol=1e-6)


def test_a_class_token_of_ids_is_told(batch):
    encoder = TokenEncoder(vocabulary=11, width=16, depth=0, positions=Classed())
    with pytest.raises(UserError, match='of 5 ids its positions make 6 tokens'):
        encoder.init(jax.random.key(0), batch['text'], ALL, train=False)
