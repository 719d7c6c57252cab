"""What a modality says alone, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.encoded import EncodedMean
from mmjax.errors import UserError
from mmjax.nn.norm import NoNorm
from mmjax.types import Fused, Tokens


def stream(lengths, seed):
    values = np.random.default_rng(seed).standard_normal((3, 4, 8))
    return Tokens.of(jnp.asarray(values, jnp.float32), jnp.asarray(np.arange(4) < np.array(lengths)[:, None]))


ENCODED = {'image': stream([4, 2, 0], 0), 'text': stream([3, 0, 1], 1)}
FUSED = Fused({'image': stream([4, 2, 0], 2), 'text': stream([3, 0, 1], 3)}, shared=stream([1, 1, 1], 4))


def test_it_reads_the_encoder_s_tokens_and_no_padding(random_parameters):
    decoder = EncodedMean(streams=('text',), classes=5, norm=NoNorm())
    params = random_parameters(decoder, ENCODED, FUSED, train=False)
    found = np.asarray(decoder.apply(params, ENCODED, FUSED, train=False))
    p = params['params']['logits']
    values = np.asarray(ENCODED['text'].values)
    for row, length in enumerate([3, 0, 1]):
        mean = values[row, :length].mean(axis=0) if length else np.zeros(8)
        np.testing.assert_allclose(found[row], mean @ p['kernel'] + p['bias'], atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize('detached', [False, True])
def test_detached_it_teaches_no_encoder(random_parameters, detached):
    decoder = EncodedMean(streams=('image',), detached=detached)
    params = random_parameters(decoder, ENCODED, FUSED, train=False)

    def total(params, values):
        encoded = ENCODED | {'image': ENCODED['image'].replace(values=values)}
        return (decoder.apply(params, encoded, FUSED, train=True) ** 2).sum()

    own, tokens = jax.grad(total, argnums=(0, 1))(params, ENCODED['image'].values)
    assert bool(tokens.any()) is not detached and all(g.any() for g in jax.tree.leaves(own))
    assert not tokens[1, 2:].any() and not tokens[2].any()


def test_streams_that_it_cannot_read():
    with pytest.raises(UserError, match='reads one stream'):
        EncodedMean().init(jax.random.key(0), ENCODED, FUSED, train=False)
    with pytest.raises(UserError, match="no encoder 'imge'; did you mean 'image'"):
        EncodedMean(streams=('imge',)).init(jax.random.key(0), ENCODED, FUSED, train=False)
