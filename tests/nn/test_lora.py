"""LoRA: fresh, it changes nothing; trained, it is a change of the weights by a product of low rank."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.decoders.classification import AttentionPool, ClassToken
from mmjax.decoders.embedding import Embedded
from mmjax.decoders.lora import LoraDecoder
from mmjax.encoders.imputed import Imputed
from mmjax.encoders.learned import LearnedTokens
from mmjax.encoders.lora import LoraEncoder
from mmjax.errors import UserError
from mmjax.fusion.experts import Experts
from mmjax.fusion.lora import LoraFusion
from mmjax.nn.attention import Attention
from mmjax.nn.dense import Dense
from mmjax.nn.lora import Lora, merged
from mmjax.paths import flat
from mmjax.sharding import MeshShape, parameter_shardings
from tests.train import toy


def plain():
    model = toy.model(dropout=0.0)
    encoders = {**model.encoders, 'image': Imputed(model.encoders['image'])}
    pool = AttentionPool(classes=2, attention=Attention(heads=2))
    return model.clone(encoders=encoders, fusion=model.fusion.clone(remat='full'), decoders={'answer': pool})


def wrapped():
    """Inside a scan with remat, beside it, below another wrapper; every layer, or some; ranks differ."""
    model = plain()
    image = Imputed(LoraEncoder(module=model.encoders['image'].encoder, rank=2, targets=('patches',)))
    return model.clone(
        encoders={**model.encoders, 'image': image},
        fusion=LoraFusion(module=model.fusion, rank=3, alpha=6.0, targets=('*',)),
        decoders={'answer': LoraDecoder(module=model.decoders['answer'], rank=1, targets=('query', 'out', 'logits'))},
    )


@pytest.fixture(scope='module')
def batch():
    rows = [toy.ToyReader.example(row) for row in range(4)]
    text = np.array([[1 + (row['text'] == 'other'), 0, 0] for row in rows], np.int32)
    return {'image': jnp.stack([row['image'] for row in rows]), 'text': jnp.asarray(text)}


@pytest.fixture(scope='module')
def fresh(batch):
    """Parameters that `init` gives without the wrappers and with them, and what both models compute."""

    def both(key):
        params = [nn.meta.unbox(model.init(key, batch))['params'] for model in (plain(), wrapped())]
        outputs = [model.apply({'params': p}, batch) for model, p in zip((plain(), wrapped()), params, strict=True)]
        return params, [output['answer'] for output in outputs]

    return jax.device_get(jax.jit(both, compiler_options={'xla_backend_optimization_level': 0})(jax.random.key(0)))


def test_fresh_it_is_what_it_wraps_bit_for_bit(fresh):
    (before, after), (expected, found) = fresh
    np.testing.assert_array_equal(found, expected)
    before, after = flat(before), flat(after)
    for path, x in before.items():  # at the same paths, of the same draws
        np.testing.assert_array_equal(after[path], x, err_msg=path)
    added = {path for path in after if path not in before}
    assert added and all(path.endswith(('/lora/a', '/lora/b')) for path in added)
    assert all(bool(after[path].any()) == path.endswith('a') for path in added)
    assert {path.split('/lora/')[0] for path in added if not path.startswith('fusion')} == {
        'encoders_image/encoder/patches',
        *(f'decoders_answer/{name}' for name in ('attend/query', 'attend/out', 'logits')),
    }


def test_merged_weights_give_the_same_outputs(fresh, batch, random_parameters):
    params = random_parameters(wrapped(), batch)['params']

    @jax.jit
    def both(params):
        folded = merged(wrapped(), params)
        return folded, [m.apply({'params': p}, batch)['answer'] for m, p in ((plain(), folded), (wrapped(), params))]

    folded, (found, expected) = both(params)
    assert jax.tree.map(np.shape, folded) == jax.tree.map(np.shape, fresh[0][0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    bare = {path: x for path, x in flat(params).items() if '/lora/' not in path}
    assert any(np.abs(x - bare[path]).max() > 0.1 for path, x in flat(folded).items())


class Outer(nn.Module):
    """Two axes in, two out."""

    @nn.compact
    def __call__(self, x):
        return Dense((2, 5), ('heads', 'head_dim', 'embed', None), name='mix')(x)


def test_the_change_is_that_of_the_paper(random_parameters):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3, 4)), jnp.float32)
    module = Wrapped(module=Outer(), rank=2, alpha=3.0, targets=('mix',))
    params = random_parameters(module, x)['params']['mix']
    w, a, b = (np.asarray(p, np.float64) for p in (params['kernel'], params['lora']['a'], params['lora']['b']))
    assert (w.shape, a.shape, b.shape) == ((3, 4, 2, 5), (3, 4, 2), (2, 2, 5))
    change = 3.0 / 2 * (a.reshape(12, 2) @ b.reshape(2, 10))
    expected = np.asarray(x).reshape(6, 12) @ (w.reshape(12, 10) + change) + np.asarray(params['bias']).reshape(10)
    np.testing.assert_allclose(module.apply({'params': {'mix': params}}, x).reshape(6, 10), expected, atol=1e-5)
    np.testing.assert_allclose(
        merged(module, {'mix': params})['mix']['kernel'].reshape(12, 10), w.reshape(12, 10) + change, atol=1e-6
    )


class Wrapped(Lora):
    def __call__(self, x):
        return self.adapted(x)


def test_it_is_sharded_as_its_kernel_is_and_the_rank_is_not(batch):
    mesh = MeshShape(data=2, fsdp=2, tensor=2).build()
    boxed = jax.eval_shape(lambda: wrapped().init(jax.random.key(0), batch))['params']
    attend = parameter_shardings(boxed, mesh)['fusion']['stack']['layers']['attend']
    kernel, a, b = (tuple(x.spec) for x in (attend['query']['kernel'], *attend['query']['lora'].values()))
    width, heads = ('fsdp', 'expert', 'sequence'), 'tensor'
    assert kernel == (None, width, heads, None)
    assert a == (None, width, None) and b == (None, None, heads, None)


def test_a_wrapper_passes_for_what_it_wraps():
    model = wrapped()
    assert model.inputs == ['image', 'text'] and model.decoders['answer'].classes == 2
    assert not LoraEncoder(module=LearnedTokens()).needs_input
    assert LoraEncoder(module=model.encoders['image']).marks == model.encoders['image'].marks
    assert LoraDecoder(module=ClassToken()).streams == ('cls',)
    assert not hasattr(LoraDecoder(module=Embedded(streams=('text',))), 'classes')
    names = ('image', 'text')
    assert model.fusion.flow(names) == plain().fusion.flow(names)
    lengths = {'image': 4, 'text': 3}
    bare, more = (m.fusion.cost(lengths, width=16) for m in (plain(), model))
    layer = 3 * (4 * (16 + 16) + 2 * (16 + 64))  # four maps of attention, two of the MLP
    assert more.parameters - bare.parameters == 2 * layer and more.macs - bare.macs == 7 * 2 * layer


def test_targets_of_every_modality_by_a_star():
    fusion = LoraFusion(module=Experts(depth=1), rank=1)
    mods = {name: toy_tokens(name) for name in ('image', 'text')}
    names = flat(jax.eval_shape(lambda: fusion.init(jax.random.key(0), mods, train=False))['params'])
    found = {path.split('/')[-3] for path in names if '/lora/a' in path}
    assert found == {'image_query', 'image_value', 'text_query', 'text_value'}


def toy_tokens(name):
    from tests.fusion.designs import make_tokens

    return make_tokens((name,))[name]


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'targets': ('qery',)}, "lora.targets: Early has no layer 'qery'; did you mean 'query'"),
        ({'targets': ('zz',)}, r"no layer 'zz' \(it has down, key, out, query, up, value\)"),
        ({'rank': 0}, 'lora.rank: 0 is below 1'),
    ],
)
def test_what_cannot_be_adapted_is_told(batch, changes, told):
    model = toy.model()
    model = model.clone(fusion=LoraFusion(module=model.fusion, **changes))
    with pytest.raises(UserError, match=told):
        jax.eval_shape(lambda: model.init(jax.random.key(0), batch))


def test_adapters_whose_wrapper_is_not_found_are_told(fresh):
    with pytest.raises(UserError, match=r'lora: decoders_answer/attend/out has A and B, but no field'):
        merged(plain(), fresh[0][1])


def test_a_swap_wraps_what_is_there():
    experiment = toy.experiment()
    changes = ['model.fusion=lora_fusion', '--model.fusion.rank', '4', 'model.encoders.text=lora_encoder']
    changed = config.override(
        experiment, [*changes, 'model.encoders.image=imputed', '--model.fusion.module.depth', '1']
    )
    assert changed.model.fusion == LoraFusion(module=experiment.model.fusion.clone(depth=1), rank=4)
    assert changed.model.encoders['text'] == LoraEncoder(module=experiment.model.encoders['text'])
    assert changed.model.encoders['image'] == Imputed(experiment.model.encoders['image'])
    again = config.override(changed, ['model.fusion=lora_fusion'])
    assert again == changed  # which is wrapped already
    assert config.load(config.dump(changed), trust=('tests',)) == changed
    decoder = config.override(dataclasses.replace(experiment), ['model.decoders.answer=lora_decoder'])
    assert decoder.model.decoders['answer'].module == experiment.model.decoders['answer']
