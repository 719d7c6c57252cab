"""Writing a token a step gives what one pass over the whole text gives: for every design that says that it can."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.fusion.early import Early
from mmjax.fusion.isolated import Isolated
from mmjax.fusion.late import Late
from mmjax.generate.steps import begin
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.nn.norm import NoNorm, RMSNorm
from mmjax.nn.positions import Learned, NoPositions, SinCos
from tests.fusion.designs import build, designs

BLOCK = Block(attention=Attention(heads=2, bias=False), mlp=Mlp(activation='relu', bias=False), norm=RMSNorm())  # lean
CAUSAL = [design for design in designs() if design.causal is True and design is not Isolated]
PROMPTS, ANSWERS = np.array([2, 1, 3]), np.array([3, 4, 2])  # words of each row


def model(fusion, **text):
    return Model(
        {
            'image': PatchEncoder(width=16, patch=4, depth=0),
            'text': TokenEncoder(vocabulary=11, width=16, **text),
        },
        fusion,
        {'text': TokenLogits(vocabulary=11, norm=NoNorm())},
    )


def batch():
    """Prompts and answers of several lengths; the second row has no image."""
    rng, places = np.random.default_rng(0), np.arange(6)
    lengths = (PROMPTS + ANSWERS)[:, None]
    row = {
        'image': rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
        'image/present': np.array([True, False, True]),
        'text': np.where(places < lengths, rng.integers(1, 11, (3, 6)), 0).astype(np.int32),
        'text/causal': ((places >= PROMPTS[:, None]) & (places < lengths)).astype(np.int32),
    }
    return jax.tree.map(jnp.asarray, row)


def both(params, batch, *, model):
    """Logits of one pass, and of steps that are given the same words: of the first token, then [steps b v]."""
    begun = begin(model, params['params'], batch, stream='text', output='text', length=6)
    answers = jnp.stack(
        [jnp.where(s < ANSWERS, batch['text'][jnp.arange(3), jnp.minimum(PROMPTS + s, 5)], 0) for s in range(4)]
    )

    def step(place, ids):
        logits, place = begun.writer.extend(place, ids)
        return place, logits

    return model.apply(params, batch)['text'], begun.logits, jax.lax.scan(step, begun.place, answers)[1]


def assert_same(model, random_parameters):
    compiled = jax.jit(functools.partial(both, model=model))
    whole, first, later = map(np.asarray, compiled(random_parameters(model, batch()), batch()))
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        stepped = np.concatenate([first[row][None], later[:answer, row]])
        np.testing.assert_allclose(stepped, whole[row, prompt - 1 : prompt + answer], atol=1e-5)
    assert np.ptp(whole, axis=-1).min() > 0.1  # logits that say something


ROTARY = {'positions': NoPositions(), 'block': BLOCK.clone(attention=Attention(heads=2, rotary=True, normalize=True))}
TOLD = {Early: ROTARY, Late: {'positions': SinCos(), 'block': BLOCK}}  # how positions are, where they are not learned


@pytest.mark.parametrize('design', CAUSAL, ids=lambda cls: cls.__name__)
def test_steps_give_what_one_pass_gives(design, random_parameters):
    text = TOLD.get(design, {'positions': Learned(), 'block': BLOCK})
    fusion = build(design, block=text['block'], entry_norm=NoNorm(), fusion_layer=0)
    assert_same(model(fusion, depth=int(design is Late), **text), random_parameters)
