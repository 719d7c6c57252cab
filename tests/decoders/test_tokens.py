"""Logits at each token."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.tokens import DeferredLogits, PatchPixels, TokenLogits
from mmjax.errors import UserError
from mmjax.nn.norm import NoNorm
from mmjax.types import Fused, Tokens


def test_each_token_of_one_stream_has_its_logits(random_parameters):
    values = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)), jnp.float32)
    fused = Fused(
        {'text': Tokens.of(values, jnp.ones((2, 3), bool)), 'image': Tokens.of(-values, jnp.ones((2, 3), bool))}
    )
    decoder = TokenLogits(vocabulary=5, norm=NoNorm())
    params = random_parameters(decoder, {}, fused, train=False)
    layer = params['params']['logits']
    expected = np.einsum('bnd,dv->bnv', values, layer['kernel']) + layer['bias']
    np.testing.assert_allclose(decoder.apply(params, {}, fused, train=False), expected, atol=1e-5)
    with pytest.raises(UserError, match='reads one stream'):
        TokenLogits(streams=('text', 'image')).init(jnp.zeros(2, jnp.uint32), {}, fused, train=False)


def test_deferred_logits_are_those_of_a_plain_decoder_with_its_parameters(random_parameters):
    values = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)), jnp.float32)
    fused = Fused({'text': Tokens.of(values, jnp.ones((2, 3), bool))})
    params = random_parameters(TokenLogits(vocabulary=5), {}, fused, train=False)
    expected = TokenLogits(vocabulary=5).apply(params, {}, fused, train=True)
    decoder = DeferredLogits(vocabulary=5)
    np.testing.assert_array_equal(decoder.apply(params, {}, fused, train=False), expected)
    told = decoder.apply(params, {}, fused, train=True)
    np.testing.assert_allclose(told.values @ told.kernel + told.bias, expected, atol=1e-5)
    made = jax.eval_shape(lambda: decoder.init(jax.random.key(0), {}, fused, train=True))
    assert jax.tree.map(jnp.shape, nn.meta.unbox(made)) == jax.tree.map(jnp.shape, params)


def test_each_token_gives_the_pixels_of_its_patch(random_parameters):
    values = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 4)), jnp.float32)
    fused = Fused({'image': Tokens.of(values, jnp.ones((2, 6), bool))})
    decoder = PatchPixels(patch=3, channels=2, norm=NoNorm())
    params = random_parameters(decoder, {}, fused, train=False)
    layer = params['params']['pixels']
    assert layer['kernel'].shape == (4, 18)
    expected = np.einsum('bnd,df->bnf', values, layer['kernel']) + layer['bias']
    np.testing.assert_allclose(decoder.apply(params, {}, fused, train=False), expected, atol=1e-5)
