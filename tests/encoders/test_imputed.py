"""The token that stands for an absent modality: alone, in a whole model, in a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.imputed import Imputed
from mmjax.encoders.text import RecurrentEncoder, TokenEncoder
from mmjax.fusion.early import Early
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from tests.train import toy

BLOCK = Block(attention=Attention(heads=2))
PRESENT = jnp.asarray([True, False, True, True, False, True, True, True])
ALL = jnp.ones(8, bool)
ENCODERS = {
    'patch': ('image', PatchEncoder(width=16, patch=4, depth=1, block=BLOCK)),
    'token': ('text', TokenEncoder(vocabulary=11, width=16, depth=1, block=BLOCK)),
    'lstm': ('text', RecurrentEncoder(vocabulary=11, width=16)),
}
each_encoder = pytest.mark.parametrize(('field', 'inner'), ENCODERS.values(), ids=ENCODERS)


def encode(module, params, batch, field, present):
    return jax.jit(lambda p, present: module.apply(p, batch[field], present, train=False))(params, present)


@each_encoder
def test_one_learned_token_stands_in_absent_rows_and_no_bit_changes_in_others(random_parameters, batch, field, inner):
    module = Imputed(inner)
    params = random_parameters(module, batch[field], PRESENT, train=False)
    assert set(params['params']) == {'encoder', 'absent'}
    found = encode(module, params, batch, field, PRESENT)
    plain = encode(inner, {'params': params['params']['encoder']}, batch, field, PRESENT)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a[PRESENT], b[PRESENT])
    for row in np.flatnonzero(~np.asarray(PRESENT)):
        np.testing.assert_array_equal(found.mask[row], np.arange(found.mask.shape[1]) == 0)
        np.testing.assert_array_equal(found.values[row, 0], params['params']['absent'])
        assert not found.values[row, 1:].any()


@each_encoder
def test_each_learns_from_its_own_rows_only(random_parameters, batch, field, inner):
    module = Imputed(inner)
    params = random_parameters(module, batch[field], ALL, train=False)
    cotangent = jnp.asarray(np.random.default_rng(0).standard_normal((8, 16)), jnp.float32)

    @jax.jit
    def gradient(present):
        def total(params):  # of all values, masked or not: nothing leaks even to a reader that forgets the mask
            values = module.apply({'params': params}, batch[field], present, train=False).values
            return jnp.einsum('bnd,bd->', values, cotangent)

        return jax.grad(total)(params['params'])

    some, none, every = gradient(PRESENT), gradient(~ALL), gradient(ALL)
    assert not any(g.any() for g in jax.tree.leaves(none['encoder']))
    assert any(g.any() for g in jax.tree.leaves(some['encoder']))
    assert not every['absent'].any()
    np.testing.assert_allclose(some['absent'], cotangent[~PRESENT].sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(none['absent'], cotangent.sum(axis=0), rtol=1e-5)


def test_bfloat16_stays_bfloat16(random_parameters, batch):
    _, inner = ENCODERS['token']
    params = random_parameters(Imputed(inner), batch['text'], PRESENT, train=False, dtype='bfloat16')
    assert encode(Imputed(inner), params, batch, 'text', PRESENT).values.dtype == jnp.bfloat16


def model(imputed):
    image, text = (inner for _, inner in (ENCODERS['patch'], ENCODERS['token']))
    wrap = Imputed if imputed else (lambda encoder: encoder)
    decoders = toy.model(classes=4).decoders
    return toy.model().clone(
        encoders={'image': wrap(image), 'text': wrap(text)}, fusion=Early(depth=1, block=BLOCK), decoders=decoders
    )


def test_in_a_model_the_token_is_read_and_what_is_absent_is_not(random_parameters, batch):
    whole = model(True)
    params = random_parameters(whole, batch)['params']
    inner = {name: x['encoder'] if name.startswith('encoders_') else x for name, x in params.items()}
    apply = jax.jit(lambda params, batch: whole.apply({'params': params}, batch)['answer'])
    some = {**batch, 'image/present': PRESENT}
    answers = apply(params, some)
    plain = jax.jit(lambda b: model(False).apply({'params': inner}, b)['answer'])(some)
    np.testing.assert_allclose(answers[PRESENT], plain[PRESENT], rtol=1e-5, atol=1e-6)  # another program
    assert (np.abs(answers - plain)[~PRESENT].max(axis=1) > 1e-3).all()
    hidden = {**some, 'image': jnp.where(PRESENT[:, None, None, None], batch['image'], 255 - batch['image'])}
    np.testing.assert_array_equal(apply(params, hidden), answers)
    moved = {**params, 'encoders_image': {**params['encoders_image'], 'absent': -params['encoders_image']['absent']}}
    np.testing.assert_array_equal(apply(moved, some)[PRESENT], answers[PRESENT])
    assert (np.abs(apply(moved, some) - answers)[~PRESENT].max(axis=1) > 1e-3).all()


def test_in_a_model_gradients_go_where_the_rows_are(random_parameters, batch):
    whole = model(True)
    params = random_parameters(whole, batch)['params']

    @jax.jit
    def gradient(present):
        seen = {**batch, 'image/present': present}
        return jax.grad(lambda p: (whole.apply({'params': p}, seen)['answer'] ** 2).sum())(params)['encoders_image']

    every, none = gradient(ALL), gradient(~ALL)
    assert not every['absent'].any() and any(g.any() for g in jax.tree.leaves(every['encoder']))
    assert none['absent'].any() and not any(g.any() for g in jax.tree.leaves(none['encoder']))


def test_it_wraps_an_encoder_in_a_config():
    experiment = toy.experiment(model=model(True))
    assert config.load(config.dump(experiment), trust=('tests',)) == experiment
    changed = config.override(experiment, ['--model.encoders.image.encoder.patch', '2'])
    assert changed.model.encoders['image'].encoder.patch == 2
    swapped = config.override(experiment, ['model.encoders.image.encoder=conv_encoder'])
    assert type(swapped.model.encoders['image'].encoder).__name__ == 'ConvEncoder'
    assert swapped.model.encoders['image'].encoder.width == 16
    plain = toy.experiment()
    wrapped = config.override(plain, ['model.encoders.image=imputed', '--model.encoders.image.encoder.patch', '2'])
    assert wrapped.model.encoders['image'] == Imputed(plain.model.encoders['image'].clone(patch=2))
