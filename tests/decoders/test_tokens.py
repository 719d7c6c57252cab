"""Logits at each token."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.tokens import PatchPixels, TokenLogits
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


def test_each_token_gives_the_pixels_of_its_patch(random_parameters):
    values = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 4)), jnp.float32)
    fused = Fused({'image': Tokens.of(values, jnp.ones((2, 6), bool))})
    decoder = PatchPixels(patch=3, channels=2, norm=NoNorm())
    params = random_parameters(decoder, {}, fused, train=False)
    layer = params['params']['pixels']
    assert layer['kernel'].shape == (4, 18)
    expected = np.einsum('bnd,df->bnf', values, layer['kernel']) + layer['bias']
    np.testing.assert_allclose(decoder.apply(params, {}, fused, train=False), expected, atol=1e-5)
