"""Models of transformers, with the same random weights, give what ours give: towers of two layers, and their heads.

`scripts/foreign_blocks` made the outputs that are compared, in an environment with torch, from the weights and inputs
of foreign/weights.py, which are drawn again here. foreign/tables.py says which weight is which.
"""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.classification import ClassToken, Pooled
from mmjax.decoders.embedding import Embedded, PooledVector, Temperature
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import CausalTokenEncoder, PairEncoder, TokenEncoder
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention, GroupedAttention
from mmjax.nn.block import Block, PostNormBlock
from mmjax.nn.entry import Classed, Normed, Scaled
from mmjax.nn.mlp import Mlp, SwiGLU
from mmjax.nn.norm import LayerNorm, NoNorm, OnePlusRMSNorm
from mmjax.nn.pool import FirstPool, LastPool, ProbePool, TanhPool
from mmjax.nn.positions import Halves, Interleaved, Learned, NoPositions
from tests.nn.foreign import tables, weights

HERE = Path(__file__).parent / 'foreign'
PARAMETERS = json.loads((HERE / 'parameters.json').read_text())['parameters']
WIDTH, HIDDEN, DEPTH, HEADS = 24, 40, 2, Attention(heads=4)


def block(activation, epsilon, *, width=WIDTH, cls=Block, attention=HEADS):
    return cls(attention=attention, mlp=Mlp(ratio=HIDDEN / width, activation=activation), norm=LayerNorm(epsilon))


def tower(encoder, entry_norm, decoders=None):
    """A model of one modality: what stands at the end of a tower, a norm, is the entry norm of the fusion."""
    name = 'image' if isinstance(encoder, PatchEncoder) else 'text'
    return Model(encoders={name: encoder}, fusion=Late(depth=0, entry_norm=entry_norm), decoders=decoders or {})


def patches(**changes):
    return PatchEncoder(width=WIDTH, patch=weights.PATCH, depth=DEPTH).clone(**changes)


def words(cls, **changes):
    return cls(vocabulary=weights.VOCABULARY, width=WIDTH, depth=DEPTH, **changes)


def vit():
    encoder = patches(block=block('gelu_exact', 1e-12), positions=Classed(Learned()))
    head = ClassToken(classes=5, streams=('image',), norm=NoNorm())
    return tower(encoder, LayerNorm(1e-12), {'logits': head})


def clip():
    image = patches(
        width=32, block=block('quick_gelu', 1e-5, width=32), positions=Normed(Classed(Learned()), LayerNorm(1e-5))
    )
    return Model(
        encoders={'image': image, 'text': words(CausalTokenEncoder, block=block('quick_gelu', 1e-5))},
        fusion=Late(depth=0, entry_norm=NoNorm()),
        decoders={
            'image': Embedded(streams=('image',), width=12, norm=LayerNorm(1e-5), pool=FirstPool()),
            'text': Embedded(streams=('text',), width=12, norm=LayerNorm(1e-5), pool=LastPool()),
            'temperature': Temperature(),
        },
    )


def siglip():
    pool = ProbePool(HEADS, Mlp(ratio=HIDDEN / WIDTH), LayerNorm(1e-6))
    return Model(
        encoders={'image': patches(block=block('gelu', 1e-6)), 'text': words(TokenEncoder, block=block('gelu', 1e-6))},
        fusion=Late(depth=0, entry_norm=NoNorm()),
        decoders={
            'image': PooledVector(streams=('image',), norm=LayerNorm(1e-6), pool=pool),
            'text': Embedded(streams=('text',), width=WIDTH, norm=LayerNorm(1e-6), pool=LastPool(), bias=True),
            'temperature': Temperature(),
        },
    )


def bert():
    encoder = words(
        PairEncoder,
        separator=weights.SEP,
        positions=Normed(Learned(), LayerNorm(1e-12)),
        block=block('gelu_exact', 1e-12, cls=PostNormBlock),
    )
    return tower(encoder, NoNorm(), {'logits': Pooled(classes=5, norm=NoNorm(), pool=TanhPool())})


def roformer():
    rotary = GroupedAttention(heads=4, key_heads=4, rotary=True, rotation=Interleaved())
    encoder = words(
        PairEncoder,
        separator=weights.SEP,
        positions=Normed(NoPositions(), LayerNorm(1e-12)),
        block=block('gelu_exact', 1e-12, cls=PostNormBlock, attention=rotary),
    )
    return tower(encoder, NoNorm())


def gemma():
    attention = GroupedAttention(heads=4, key_heads=2, head_dim=10, bias=False, rotary=True, rotation=Halves(500.0))
    mlp = SwiGLU(ratio=HIDDEN / WIDTH, activation='gelu')
    layer = Block(attention=attention, mlp=mlp, norm=OnePlusRMSNorm())
    encoder = words(CausalTokenEncoder, positions=Scaled(NoPositions()), block=layer)
    return tower(encoder, OnePlusRMSNorm())


MODELS = {
    'vit': (vit, tables.VIT),
    'clip': (clip, tables.CLIP),
    'siglip': (siglip, tables.SIGLIP),
    'bert': (bert, tables.BERT),
    'roformer': (roformer, tables.ROFORMER),
    'gemma': (gemma, tables.GEMMA),
}
BATCH = {'image': weights.images(), 'text': weights.ids().astype(np.int32)}


def outputs(model, batch):
    """Of the decoders, and the tokens of the only stream where there is one; a unit vector of their pooled ones."""
    encoded = model.encode(batch)
    fused = model.fusion(encoded, train=False)
    streams = {name: x.values for name, x in fused.streams.items()} if len(fused.streams) == 1 else {}
    return streams | model.decode(encoded, fused)


def foreign_weights(name):
    return {weight: weights.weight(weight, shape) for weight, shape in PARAMETERS[name].items()}


def shapes_of(model, batch):
    return nn.meta.unbox(jax.eval_shape(lambda: model.init(jax.random.key(0), batch)))['params']


@pytest.mark.parametrize('name', MODELS)
def test_the_same_weights_give_the_same_outputs(name):
    make, table = MODELS[name]
    model = make()
    batch = {m: jnp.asarray(BATCH[m]) for m in model.encoders}
    if name == 'siglip':  # reads padding as a word
        batch['text'] = jnp.asarray(weights.filled_ids().astype(np.int32))
    params = tables.fill(table, foreign_weights(name), shapes_of(model, batch), layers=DEPTH)
    ours = jax.jit(lambda params, batch: model.apply({'params': params}, batch, method=outputs))(params, batch)
    ours = {output: np.asarray(value) for output, value in ours.items()}
    if name in ('clip', 'siglip'):
        scale, bias = ours['temperature'][0]
        ours['scores'] = np.exp(scale) * ours['image'] @ ours['text'].T + bias
    with np.load(HERE / 'outputs.npz') as stored:
        theirs = {key.partition('/')[2]: value for key, value in stored.items() if key.startswith(f'{name}/')}
    assert theirs
    for output, expected in theirs.items():
        real = BATCH['text'] != 0 if output == 'text' and expected.ndim == 3 else ...
        assert np.std(expected[real]) > 0.05, 'an output that says nothing'
        np.testing.assert_allclose(ours[output][real], expected[real], rtol=0, atol=1e-5, err_msg=output)


def test_a_table_that_lacks_a_weight_or_lays_it_out_wrongly_fails():
    model = gemma()
    shapes, theirs = shapes_of(model, {'text': jnp.asarray(BATCH['text'])}), foreign_weights('gemma')
    for wrong, message in (
        (tables.GEMMA[1:], 'nothing fills'),
        ([*tables.GEMMA, ((), tables.GEMMA[0][1], lambda: 0)], 'filled twice'),
        ([((), tables.GEMMA[0][1], lambda: 0), *tables.GEMMA[1:]], 'nothing takes'),
        ([*tables.GEMMA[:-1], ('nrom.weight', *tables.GEMMA[-1][1:])], 'the foreign model has no'),
    ):
        with pytest.raises(AssertionError, match=message):
            tables.fill(wrong, theirs, shapes, layers=DEPTH)
