"""Read-outs against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from mmjax.decoders.classification import AttentionPool, ClassToken, LogitSum, MaskedMean, Product
from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.nn.norm import NoNorm
from mmjax.types import Fused, Tokens


def stream(lengths, seed):
    values = np.random.default_rng(seed).standard_normal((3, 4, 8))
    return Tokens.of(jnp.asarray(values, jnp.float32), jnp.asarray(np.arange(4) < np.array(lengths)[:, None]))


FUSED = Fused({'image': stream([4, 2, 0], 0), 'text': stream([3, 0, 0], 1), 'cls': stream([4, 4, 0], 2)})
NORM = NoNorm()


def run(random_parameters, decoder, fused=FUSED):
    """Logits, and the parameters that gave them, in float64."""
    params = random_parameters(decoder, {}, fused, train=False)
    logits = jax.jit(lambda p, fused: decoder.apply(p, {}, fused, train=False))(params, fused)
    return np.asarray(logits), jax.tree.map(lambda x: np.asarray(x, np.float64), params['params'])


def real(name, row, fused=FUSED):
    tokens = fused.streams[name]
    return np.asarray(tokens.values, np.float64)[row][np.asarray(tokens.mask)[row]]


def linear(x, p):
    return x @ p['kernel'] + p['bias']


def test_masked_mean(random_parameters):
    logits, p = run(random_parameters, MaskedMean(classes=5, norm=NORM))
    for row in range(2):
        pool = np.concatenate([real(name, row) for name in ('image', 'text', 'cls')]).mean(axis=0)
        np.testing.assert_allclose(logits[row], linear(pool, p['logits']), atol=1e-5)
    np.testing.assert_allclose(logits[2], p['logits']['bias'], atol=1e-6)


def test_masked_mean_of_one_stream_is_that_modality_s_own_output(random_parameters):
    logits, p = run(random_parameters, MaskedMean(classes=5, norm=NORM, streams=('text',)))
    np.testing.assert_allclose(logits[0], linear(real('text', 0).mean(axis=0), p['logits']), atol=1e-5)


def test_the_norm_comes_before_the_pool(random_parameters):
    logits, p = run(random_parameters, MaskedMean(classes=5, streams=('text',)))
    x = real('text', 0)
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    pool = (normed * p['norm_tokens']['scale'] + p['norm_tokens']['bias']).mean(axis=0)
    np.testing.assert_allclose(logits[0], linear(pool, p['logits']), atol=1e-5)


def test_product(random_parameters):
    streams = ('image', 'text')
    logits, p = run(random_parameters, Product(classes=5, norm=NORM, streams=streams, width=6))
    each = [real(name, 0).mean(axis=0) @ p[f'project_{name}']['kernel'] for name in streams]
    np.testing.assert_allclose(logits[0], linear(each[0] * each[1], p['logits']), atol=1e-5)
    np.testing.assert_allclose(logits[1:], [p['logits']['bias']] * 2, atol=1e-6)  # the text is absent, then both


def test_of_one_stream_there_is_no_product():
    with pytest.raises(UserError, match=r"reads two streams or more, the fusion gives \['text'\]"):
        Product(streams=('text',)).init(jax.random.key(0), {}, FUSED, train=False)


def test_class_token(random_parameters):
    logits, p = run(random_parameters, ClassToken(classes=5, norm=NORM))
    np.testing.assert_allclose(logits[0], linear(real('cls', 0)[0], p['logits']), atol=1e-5)
    np.testing.assert_allclose(logits[2], p['logits']['bias'], atol=1e-6)


def test_attention_pool(random_parameters):
    # Segments of the fusion end here: the query reads all that is real.
    fused = FUSED.replace(
        streams={name: x.replace(segments=x.segments + i) for i, (name, x) in enumerate(FUSED.streams.items())}
    )
    logits, p = run(random_parameters, AttentionPool(classes=5, norm=NORM, attention=Attention(heads=2)), fused)
    for row in range(2):
        x, pool = np.concatenate([real(name, row) for name in FUSED.streams]), p['attend']['out']['bias'].copy()
        for head in range(2):
            q, k, v = (
                y @ p['attend'][name]['kernel'][:, head] + p['attend'][name]['bias'][head]
                for y, name in ((p['query'], 'query'), (x, 'key'), (x, 'value'))
            )
            pool += softmax(k @ q / 2) @ v @ p['attend']['out']['kernel'][head]  # width of a head: 4
        np.testing.assert_allclose(logits[row], linear(pool, p['logits']), atol=1e-5)
    np.testing.assert_allclose(logits[2], p['logits']['bias'], atol=1e-6)


@pytest.mark.short
def test_logit_sum(random_parameters):
    logits, p = run(random_parameters, LogitSum(classes=5, norm=NORM))
    expected = np.zeros((3, 5))
    for row, names in enumerate(
        [('image', 'text', 'cls'), ('image', 'cls'), ()]
    ):  # an absent one adds not even its bias
        for name in names:
            expected[row] += linear(real(name, row).mean(axis=0), p[f'logits_{name}'])
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    'decoder', [MaskedMean(), ClassToken(), AttentionPool(), LogitSum()], ids=lambda d: type(d).__name__
)
def test_logits_are_float32_and_padding_changes_nothing(random_parameters, decoder):
    params = random_parameters(decoder, {}, FUSED, train=False, dtype='bfloat16')
    apply = jax.jit(lambda fused: decoder.apply(params, {}, fused, train=False))
    noisy = {name: x.replace(values=jnp.where(x.mask[:, :, None], x.values, 7.0)) for name, x in FUSED.streams.items()}
    plain = apply(FUSED)
    assert plain.dtype == jnp.float32 and plain.shape == (3, 2)
    np.testing.assert_array_equal(apply(FUSED.replace(streams=noisy)), plain)


def test_shared_tokens_are_read_unless_streams_are_named(random_parameters):
    shared = stream([1, 1, 1], 7)
    fused = FUSED.replace(shared=shared)
    logits, p = run(random_parameters, MaskedMean(classes=5, norm=NORM), fused)
    np.testing.assert_allclose(logits, linear(np.asarray(shared.values[:, 0], np.float64), p['logits']), atol=1e-5)
    logits, p = run(random_parameters, MaskedMean(classes=5, norm=NORM, streams=('shared',)), fused)
    np.testing.assert_allclose(logits, linear(np.asarray(shared.values[:, 0], np.float64), p['logits']), atol=1e-5)


def test_unknown_stream():
    with pytest.raises(UserError, match="no stream 'txt'; did you mean 'text'"):
        MaskedMean(streams=('txt',)).init(jax.random.key(0), {}, FUSED, train=False)


def test_class_token_of_two_streams():
    with pytest.raises(UserError, match='reads one stream'):
        ClassToken(streams=('cls', 'text')).init(jax.random.key(0), {}, FUSED, train=False)
