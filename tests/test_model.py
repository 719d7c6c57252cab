"""Encoders -> fusion -> decoders."""

import dataclasses
import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmjax
from mmjax.decoders.classification import ClassToken, LogitSum, MaskedMean
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.learned import LearnedTokens
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.types import Fused

MODEL = Model(
    {
        'image': ConvEncoder(width=16, channels=(4,)),
        'text': TokenEncoder(vocabulary=11, width=16, depth=0),
        'cls': LearnedTokens(width=16),
    },
    Early(depth=1, block=Block(attention=Attention(heads=2))),
    {'answer': ClassToken(classes=4), 'image': MaskedMean(classes=3, streams=('image',)), 'sum': LogitSum(classes=2)},
)


@pytest.mark.short
def test_one_compiled_program_serves_every_subset_of_modalities(batch, random_parameters):
    flags = {'image/present': jnp.ones(8, bool), 'text/present': jnp.ones(8, bool)}
    params, apply = random_parameters(MODEL, batch | flags), jax.jit(MODEL.apply)
    outputs = apply(params, batch | flags)
    assert {name: x.shape for name, x in outputs.items()} == {'answer': (8, 4), 'image': (8, 3), 'sum': (8, 2)}
    for name in ('image', 'text'):
        without = batch | flags | {f'{name}/present': jnp.arange(8) >= 4}
        other_values = without | {name: without[name].at[:4].set(1)}
        for output, values in apply(params, without).items():
            np.testing.assert_array_equal(values, apply(params, other_values)[output])  # what is absent is not read
            np.testing.assert_array_equal(values[4:], outputs[output][4:])
            assert np.isfinite(values).all()
        assert (apply(params, without)['answer'][:4] != outputs['answer'][:4]).any()
    assert apply._cache_size() == 1


def test_a_modality_without_a_flag_is_present(batch, random_parameters):
    params = random_parameters(MODEL, batch)
    flagged = batch | {'image/present': jnp.ones(8, bool)}
    encode = jax.jit(lambda p, x: MODEL.apply(p, x, method='encode'))
    np.testing.assert_array_equal(encode(params, flagged)['image'].mask, encode(params, batch)['image'].mask)


def test_an_absent_modality_leaves_its_encoder_without_gradient(batch, random_parameters):
    params = random_parameters(MODEL, batch)
    gone = batch | {'image/present': jnp.zeros(8, bool)}
    grads = jax.jit(jax.grad(lambda p: (MODEL.apply(p, gone)['answer'] ** 2).sum()))(params)['params']
    assert not any(g.any() for g in jax.tree.leaves(grads['encoders_image']))
    assert any(g.any() for g in jax.tree.leaves(grads['encoders_text']))


def test_decoders_are_given_the_encoders_own_tokens(batch, random_parameters):
    params = random_parameters(MODEL, batch)
    encoded = MODEL.apply(params, batch, method='encode')
    assert set(encoded) == {'image', 'text', 'cls'}
    direct = MODEL.apply(params, encoded, Fused(encoded), method='decode')
    alone = MODEL.decoders['image'].apply(
        {'params': params['params']['decoders_image']}, encoded, Fused(encoded), train=False
    )
    np.testing.assert_allclose(direct['image'], alone, atol=1e-6)


def test_field_that_the_batch_lacks(batch):
    del (batch := dict(batch))['text']
    with pytest.raises(UserError, match=r"model\.encoders\.text: the batch has no field 'text'"):
        jax.eval_shape(lambda: MODEL.init(jax.random.key(0), batch | {'txt': batch['answer']}))


def modules_of_the_package():
    for package in ('nn', 'encoders', 'fusion', 'decoders'):
        for info in pkgutil.iter_modules(importlib.import_module(f'mmjax.{package}').__path__):
            module = importlib.import_module(f'mmjax.{package}.{info.name}')
            yield from (x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__)


def test_no_default_is_a_shared_module():
    # An unbound Linen module is mutable: one that stands in the class itself would be every instance's.
    assert mmjax.__version__
    for cls in set(modules_of_the_package()):
        if issubclass(cls, nn.Module):
            for field in dataclasses.fields(cls):
                assert not isinstance(field.default, nn.Module), f'{cls.__name__}.{field.name}: use default_factory'
