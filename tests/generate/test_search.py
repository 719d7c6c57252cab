"""Every way to write a text against plain Python that writes each text out, on a vocabulary of four ids."""

import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import chisquare

from mmjax.errors import UserError
from mmjax.generate.beam import Beam
from mmjax.generate.search import Greedy, Sample, Writer

VOCABULARY, END, LENGTH = 4, 1, 4  # 0 is padding
LIMITS = np.array([4, 3, 4, 0, 1])  # the fourth row stays empty
ROWS = len(LIMITS)
# Logits of a row, after the last two ids: a text must be remembered further back than one step.
TABLE = np.random.default_rng(5).standard_normal((ROWS, VOCABULARY, VOCABULARY, VOCABULARY)) * 1.5
TABLE[..., 0] += 3  # padding would be likely, and is never written


def after(row, text):
    """Log-probabilities of what follows a text."""
    one, two = ((0, 0, *text))[-2:]
    return np.concatenate([[-np.inf], log_softmax(TABLE[row, one, two, 1:])])


def extend(state, ids):
    row, last = state
    return jnp.asarray(TABLE, jnp.float32)[row, last, ids], (row, ids)


WRITER = Writer(
    extend,
    widen=lambda state, k: jax.tree.map(lambda x: jnp.repeat(x, k), state),
    pick=lambda state, at: jax.tree.map(lambda x: x[at], state),
)


@functools.cache
def write(search, *, seed=0):
    """Texts without padding, and their scores."""

    @jax.jit
    def run(keys):
        none = jnp.zeros(ROWS, jnp.int32)
        logits, state = extend((jnp.arange(ROWS), none), none)
        return search(logits, state, WRITER, limits=jnp.asarray(LIMITS), length=LENGTH, end=END, keys=keys)

    ids, scores = run(jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(ROWS)))
    return [tuple(i for i in row if i) for row in np.asarray(ids).tolist()], np.asarray(scores)


def texts(limit):
    """All that end with the end token or have as many ids as there may be."""
    words = [i for i in range(1, VOCABULARY) if i != END]
    for n in range(limit):
        yield from ((*body, END) for body in itertools.product(words, repeat=n))
    yield from itertools.product(words, repeat=limit)


def likelihood(row, text):
    return sum(after(row, text[:i])[token] for i, token in enumerate(text))


def score(row, text, penalty):
    return likelihood(row, text) / ((5 + len(text)) / 6) ** penalty


def test_greedy():
    found, scores = write(Greedy())
    for row, limit in enumerate(LIMITS):
        text = ()
        while len(text) < limit and END not in text:
            text += (int(after(row, text).argmax()),)
        assert found[row] == text
        np.testing.assert_allclose(scores[row], likelihood(row, text), rtol=1e-5)
    assert len({len(text) for text in found}) > 2  # some end, some are cut


@pytest.mark.parametrize('penalty', [0.0, 0.6, 2.0])
def test_as_many_beams_as_there_are_texts_find_the_best(penalty):
    found, scores = write(Beam(width=VOCABULARY**LENGTH, penalty=penalty))
    for row, limit in enumerate(LIMITS):
        if limit:
            best = max(texts(limit), key=lambda text: score(row, text, penalty))
            assert found[row] == best
            np.testing.assert_allclose(scores[row], score(row, best, penalty), rtol=1e-5)
        else:
            assert (found[row], scores[row]) == ((), 0)


@pytest.mark.parametrize('width', [1, 2])
def test_a_few_beams_are_those_of_plain_python(width):
    found, scores = write(Beam(width=width, penalty=1.0))
    for row, limit in enumerate(LIMITS):
        live, ended = [()], []
        for n in range(1, limit + 1):
            grown = [(*text, i) for text in live for i in range(1, VOCABULARY)]
            grown = sorted(grown, key=lambda text: -likelihood(row, text))[: 2 * width]
            ended += [text for text in grown if text[-1] == END or n == limit]
            live = [text for text in grown if text not in ended][:width]
        if limit:
            best = max(ended, key=lambda text: score(row, text, 1.0))
            assert found[row] == best
            np.testing.assert_allclose(scores[row], score(row, best, 1.0), rtol=1e-5)


def test_more_beams_are_seldom_worse():
    assert write(Beam(width=2, penalty=0.0))[1].sum() >= write(Greedy())[1].sum()


LOGS = log_softmax(np.random.default_rng(1).standard_normal((6, 9)) * 2, axis=-1)


@pytest.mark.parametrize(
    ('temperature', 'top_k', 'top_p'), [(0.5, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.7), (2.0, 5, 0.6)]
)
def test_what_is_drawn_from(temperature, top_k, top_p):
    found = Sample(temperature=temperature, top_k=top_k, top_p=top_p).narrowed(jnp.asarray(LOGS, jnp.float32))
    for row, logs in zip(np.asarray(found), LOGS, strict=True):
        order = np.argsort(-logs)[: top_k or None]
        p = softmax(logs[order] / temperature)
        kept = 1
        while p[:kept].sum() < top_p and kept < len(p):
            kept += 1
        expected = np.zeros(9)
        expected[order[:kept]] = p[:kept] / p[:kept].sum()
        np.testing.assert_allclose(softmax(row), expected, atol=1e-6)


def test_draws_have_the_probabilities_of_the_model():
    logs = jnp.broadcast_to(jnp.asarray(LOGS[0], jnp.float32), (4000, 9))
    drawn = Sample().choose(logs, jax.random.split(jax.random.key(0), 4000))
    counts = Counter(np.asarray(drawn).tolist())
    assert chisquare([counts[i] for i in range(9)], 4000 * np.exp(LOGS[0])).pvalue > 0.01


def test_a_sampled_text_has_its_own_likelihood_and_seed():
    found, scores = write(Sample(), seed=1)
    for row, text in enumerate(found):
        assert len(text) <= LIMITS[row] and 0 not in text and END not in text[:-1]
        np.testing.assert_allclose(scores[row], likelihood(row, text), rtol=1e-5)
    assert found != write(Sample(), seed=2)[0]
    assert write(Sample(top_k=1), seed=3)[0] == write(Greedy())[0]


def test_settings_that_make_no_sense():
    for search, settings in ((Sample, {'temperature': 0.0}), (Sample, {'top_p': 0.0}), (Beam, {'width': 0})):
        with pytest.raises(UserError):
            search(**settings)
