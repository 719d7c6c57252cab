"""The vectors and the temperature of two-tower objectives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.errors import UserError
from mmjax.types import Fused, Tokens
from tests.train import toy

MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
VALUES = np.random.default_rng(0).standard_normal((3, 3, 4))
TOKENS = {'image': Tokens.of(jnp.asarray(VALUES, jnp.float32), jnp.asarray(MASK))}
NOTHING = Fused({})


def test_embedded_is_the_unit_vector_of_the_mean(random_parameters):
    decoder = Embedded(streams=('image',), width=5)
    params = random_parameters(decoder, TOKENS, NOTHING, train=False)
    found = np.asarray(decoder.apply(params, TOKENS, NOTHING, train=False))
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params['params'])
    normed = (VALUES - VALUES.mean(-1, keepdims=True)) / np.sqrt(VALUES.var(-1, keepdims=True) + 1e-6)
    normed = normed * p['norm_tokens']['scale'] + p['norm_tokens']['bias']
    pooled = np.stack([normed[0].mean(0), normed[1, 0]]) @ p['project']['kernel']
    np.testing.assert_allclose(found[:2], pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(found[2], 0)


def test_embedded_has_finite_gradients_where_nothing_is():
    decoder = Embedded(streams=('image',), width=5)
    gone = {'image': TOKENS['image'].replace(mask=jnp.zeros((3, 3), bool))}
    params = decoder.init(jax.random.key(0), TOKENS, NOTHING, train=False)
    grads = jax.grad(lambda p: decoder.apply(p, gone, NOTHING, train=True).sum())(params)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(grads))


def test_temperature_starts_as_it_is_told_and_is_clipped():
    decoder = Temperature(scale=10.0, bias=-10.0)
    params = decoder.init(jax.random.key(0), TOKENS, NOTHING, train=False)
    rows = decoder.apply(params, TOKENS, NOTHING, train=False)
    np.testing.assert_allclose(rows, np.tile([np.log(10), -10], (3, 1)), rtol=1e-6)
    higher = jax.tree.map(lambda x: x + jnp.array([9.0, 0.0]), nn.meta.unbox(params))
    np.testing.assert_allclose(decoder.apply(higher, TOKENS, NOTHING, train=False)[:, 0], np.log(100), rtol=1e-6)
    slope = jax.grad(lambda p: decoder.apply(p, TOKENS, NOTHING, train=True)[0, 0])(higher)
    assert slope['params']['numbers'][0] == 1  # so that it can come back
    for scale in (0.0, -1.0, 101.0):
        with pytest.raises(UserError, match='is not above 0 and at most 100'):
            Temperature(scale=scale).init(jax.random.key(0), TOKENS, NOTHING, train=False)


def test_it_reads_one_stream_that_there_is():
    for streams, message in (((), 'reads one stream'), (('imag',), "no encoder 'imag'; did you mean 'image'")):
        with pytest.raises(UserError, match=message):
            Embedded(streams=streams).init(jax.random.key(0), TOKENS, NOTHING, train=False)


def test_a_config_keeps_them():
    decoders = {'vector': Embedded(streams=('image',)), 'temperature': Temperature()}
    experiment = toy.experiment(model=toy.model().clone(decoders=decoders))
    assert config.load(config.dump(experiment), trust=('tests',)) == experiment
