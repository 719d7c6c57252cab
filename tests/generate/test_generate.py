"""A model that writes: the text that plain Python writes with whole passes of it, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.classification import LogitSum
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.text import RecurrentEncoder
from mmjax.errors import UserError
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.early import Early
from mmjax.generate.beam import Beam
from mmjax.generate.generate import Generate
from mmjax.generate.search import Sample
from mmjax.nn.positions import Learned
from tests.generate.test_steps import BLOCK, PROMPTS, batch, model

END, LENGTH = 1, 6
MODEL = model(Early(depth=1, block=BLOCK), depth=0, positions=Learned(length=LENGTH), block=BLOCK)
WRITE = Generate(end=END, length=LENGTH)


@pytest.fixture(scope='module')
def params(random_parameters):
    return random_parameters(MODEL, batch())['params']


@pytest.fixture(scope='module')
def after(params):
    """after(row, text): log-probabilities of what follows a text of a row, by a whole pass of the model."""
    whole, given = jax.jit(lambda batch: MODEL.apply({'params': params}, batch)['text']), batch()

    def follow(row, text):
        prompt = PROMPTS[row]
        ids, causal = np.zeros((2, 3, LENGTH), np.int32)
        ids[row, :prompt] = given['text'][row, :prompt]
        ids[row, prompt : prompt + len(text)], causal[row, prompt : prompt + len(text)] = text, 1
        logits = whole({**given, 'text': jnp.asarray(ids), 'text/causal': jnp.asarray(causal)})
        logs = np.asarray(logits, np.float64)[row, prompt + len(text) - 1]
        logs[0] = -np.inf
        return logs - np.log(np.exp(logs).sum())

    return follow


def written(outputs):
    return [tuple(i for i in row if i) for row in np.asarray(outputs['text']).tolist()]


def test_greedy_texts_are_those_of_whole_passes(params, after):
    outputs = jax.jit(lambda batch: WRITE(MODEL, params, batch))(batch())
    for row, text in enumerate(written(outputs)):
        expected, score = (), 0.0
        while len(expected) < LENGTH - PROMPTS[row] and END not in expected:
            logs = after(row, expected)
            expected, score = (*expected, int(logs.argmax())), score + logs.max()
        assert text == expected
        np.testing.assert_allclose(outputs['text/score'][row], score, rtol=1e-4)
    assert not jnp.any(outputs['text'][:, LENGTH - 1 :])


def test_beams_are_those_of_whole_passes(params, after):
    """Their caches are put in another order at each step, so that a beam reads what it has written itself."""
    search = Beam(width=3, penalty=0.0)
    outputs = jax.jit(lambda batch: dataclasses.replace(WRITE, search=search)(MODEL, params, batch))(batch())
    for row, text in enumerate(written(outputs)):
        score = sum(after(row, text[:i])[token] for i, token in enumerate(text))
        np.testing.assert_allclose(outputs['text/score'][row], score, rtol=1e-4)


def test_draws_belong_to_the_example_and_an_absent_text_stays_absent(params):
    draw = dataclasses.replace(WRITE, search=Sample())
    program = jax.jit(lambda batch: draw(MODEL, params, batch))
    given = {**batch(), 'index': jnp.array([7, 5, 3]), 'text/present': jnp.array([True, True, False])}
    order = jnp.array([1, 2, 0])
    plain, moved = written(program(given)), written(program(jax.tree.map(lambda x: x[order], given)))
    assert [plain[i] for i in order] == moved
    assert plain[2] == () and plain[0] and plain[1]


def test_what_can_not_write_says_so_before_it_runs():
    with pytest.raises(UserError, match=r'model.fusion is Bottleneck.*those that can: coattention, .*early, .*mid'):
        WRITE.check(MODEL.clone(fusion=Bottleneck()))
    recurrent = {**MODEL.encoders, 'text': RecurrentEncoder(vocabulary=11, width=16)}
    with pytest.raises(UserError, match=r'model.encoders.text is RecurrentEncoder.*token_encoder'):
        WRITE.check(MODEL.clone(encoders=recurrent))
    with pytest.raises(UserError, match="no modality 'txt'; did you mean 'text'"):
        dataclasses.replace(WRITE, stream='txt').check(MODEL)
    with pytest.raises(UserError, match="no decoder 'caption'"):
        dataclasses.replace(WRITE, output='caption').check(MODEL)
    with pytest.raises(UserError, match='decoder text gives no logits of tokens'):
        WRITE.check(MODEL.clone(decoders={'text': LogitSum(classes=2)}))
    with pytest.raises(UserError, match=r'generate.end: 11 is none of the 11 ids'):
        dataclasses.replace(WRITE, end=11).check(MODEL)
    WRITE.check(MODEL.clone(decoders={'text': TokenLogits(vocabulary=11)}))


def test_texts_that_do_not_fit_are_refused(params):
    too_long = dataclasses.replace(WRITE, length=LENGTH + 1)
    with pytest.raises(UserError, match='6 learned positions, but 7 places'):
        jax.eval_shape(lambda batch: too_long(MODEL, params, batch), batch())
    unmarked = {name: x for name, x in batch().items() if name != 'text/causal'}
    with pytest.raises(UserError, match=r"no 'text/causal'.*PromptAnswer"):
        jax.eval_shape(lambda batch: WRITE(MODEL, params, batch), unmarked)
    packed = {**batch(), 'text/segments': jnp.ones((3, 6), jnp.int32)}
    with pytest.raises(UserError, match='rows of text are packed'):
        jax.eval_shape(lambda batch: WRITE(MODEL, params, batch), packed)
