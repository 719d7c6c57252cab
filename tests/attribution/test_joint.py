"""Rollout and the rule of Chefer against NumPy, token by token as the papers write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.attribution.attention import Maps, capture
from mmjax.attribution.chefer import chefer
from mmjax.attribution.joint import check_wiring, matrices, readout
from mmjax.attribution.rollout import rollout
from mmjax.decoders.classification import AttentionPool, ClassToken, LogitSum, MaskedMean
from mmjax.errors import UserError
from mmjax.fusion.coattention import Coattention
from mmjax.fusion.early import Early
from mmjax.fusion.gated import GatedCrossAttention
from mmjax.fusion.late import Late
from mmjax.fusion.mid import Mid
from tests.attribution.small import around, parameters
from tests.fusion.designs import LENGTHS, PAIR, make_tokens
from tests.fusion.designs import build as small

N = {name: LENGTHS[name] for name in PAIR}
TARGET = jnp.asarray([0, 1, 2])


@pytest.fixture(scope='module')
def early(random_parameters):
    encoded = make_tokens(PAIR)
    model = around(small(Early), PAIR, MaskedMean(classes=3))
    params = parameters(model, encoded, random_parameters)
    return model, encoded, capture(model, params, encoded, output='answer', target=TARGET)[1]


def jitted(method, fusion, maps, encoded):
    return jax.jit(lambda maps, encoded: method(fusion, MaskedMean(), maps, encoded))(maps, encoded)


def real_of(encoded):
    return np.concatenate([np.asarray(encoded[name].mask) for name in PAIR], axis=1)


def joined(found):
    return np.concatenate([np.asarray(found[name]) for name in PAIR], axis=1)


def test_rollout_of_early_fusion(early):
    model, encoded, maps = early
    found = joined(jitted(rollout, model.fusion, maps, encoded))
    a = np.asarray(maps['stack/layers/attend'].probabilities, np.float64)
    real = real_of(encoded)
    for b in range(len(real)):
        total = np.eye(7)
        for layer in range(2):
            step = a[layer, b].mean(0) + np.eye(7)
            total = (step / step.sum(1, keepdims=True)) @ total
        np.testing.assert_allclose(found[b], total[real[b]].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert not found[~real].any()


def test_chefer_of_early_fusion(early):
    model, encoded, maps = early
    found = joined(jitted(chefer, model.fusion, maps, encoded))
    m = maps['stack/layers/attend']
    a, g = (np.asarray(x, np.float64) for x in (m.probabilities, m.gradients))
    real = real_of(encoded)
    for b in range(len(real)):
        total = np.eye(7)
        for layer in range(2):
            total = total + np.maximum(a[layer, b] * g[layer, b], 0).mean(0) @ total
        np.testing.assert_allclose(found[b], (total - np.eye(7))[real[b]].mean(0), rtol=1e-4, atol=1e-7)
    assert (found >= 0).all() and found[0].min() > 0 and not found[~real].any()


def made_up(rng, layers, n, m, query, key):
    """Attention that needs no model: any rows that sum to 1, any gradients."""
    p = rng.random((layers, 2, 2, n, m))
    p = p / p.sum(-1, keepdims=True)
    g = rng.standard_normal(p.shape)
    return Maps(jnp.asarray(p, jnp.float32), jnp.asarray(g, jnp.float32), query, key)


def coattention_maps(layers=2):
    rng, maps = np.random.default_rng(3), {}
    for s, q in (('image', 'text'), ('text', 'image')):
        maps[f'layers/cross_{s}'] = made_up(rng, layers, N[s], N[q], (s,) * N[s], (q,) * N[q])
        maps[f'layers/block_{s}/attend'] = made_up(rng, layers, N[s], N[s], (s,) * N[s], (s,) * N[s])
    encoded = {name: x.replace(mask=jnp.ones_like(x.mask)) for name, x in make_tokens(PAIR, batch=3).items()}
    return maps, {name: type(x).of(x.values[:2], x.mask[:2]) for name, x in encoded.items()}


def test_chefer_of_coattention():
    """Equations 6-11 of the paper as they stand, two modalities."""
    maps, encoded = coattention_maps()
    found = jitted(chefer, Coattention(), maps, encoded)
    for b in range(2):
        bar = {
            path: np.maximum(np.asarray(m.gradients * m.probabilities, np.float64)[:, b], 0).mean(1)
            for path, m in maps.items()
        }
        r = {(s, q): np.eye(N[s]) if s == q else np.zeros((N[s], N[q])) for s in PAIR for q in PAIR}

        def hat(x):
            x = x - np.eye(len(x))
            total = x.sum(1, keepdims=True)
            return np.divide(x, total, out=np.zeros_like(x), where=total > 0) + np.eye(len(x))

        for layer in range(2):
            old = dict(r)
            for s, q in (PAIR, PAIR[::-1]):
                a = bar[f'layers/cross_{s}'][layer]
                r[s, q] = old[s, q] + hat(old[s, s]).T @ a @ hat(old[q, q])
                r[s, s] = old[s, s] + a @ old[q, s]
            old = dict(r)
            for s, q in (PAIR, PAIR[::-1]):
                a = bar[f'layers/block_{s}/attend'][layer]
                r[s, s] = old[s, s] + a @ old[s, s]
                r[s, q] = old[s, q] + a @ old[s, q]
        for s in PAIR:
            column = np.concatenate([r[t, s] - (np.eye(N[s]) if t == s else 0) for t in PAIR])
            np.testing.assert_allclose(found[s][b], column.mean(0), rtol=1e-4)


def test_rollout_of_coattention():
    maps, encoded = coattention_maps(layers=1)
    found = joined(jitted(rollout, Coattention(), maps, encoded))
    mean = {path: np.asarray(m.probabilities, np.float64)[0].mean(1) for path, m in maps.items()}
    for b in range(2):
        a, o = mean['layers/cross_image'][b], mean['layers/cross_text'][b]
        cross = np.block([[np.eye(4), a], [o, np.eye(3)]]) / 2
        own = [(np.eye(N[s]) + mean[f'layers/block_{s}/attend'][b]) / 2 for s in PAIR]
        total = np.block([[own[0], np.zeros((4, 3))], [np.zeros((3, 4)), own[1]]]) @ cross
        np.testing.assert_allclose(found[b], total.mean(0), atol=1e-6)


def test_designs_whose_towers_come_first():
    rng, encoded = np.random.default_rng(0), coattention_maps()[1]
    everyone = tuple(name for name in PAIR for _ in range(N[name]))
    towers = {f'towers/{s}/layers/attend': made_up(rng, 1, N[s], N[s], (s,) * N[s], (s,) * N[s]) for s in PAIR}
    later = {f'layers/{s}/attend': made_up(rng, 2, N[s], 7, (s,) * N[s], everyone) for s in PAIR}
    maps = towers | later
    means = {path: m.probabilities.mean(2) for path, m in maps.items()}
    steps = matrices(Mid(), means, maps, encoded)
    assert len(steps) == 3 and not steps[0][:, :4, 4:].any() and not steps[0][:, 4:, :4].any()
    np.testing.assert_array_equal(steps[2][:, 4:], means['layers/text/attend'][1])
    np.testing.assert_array_equal(steps[1][:, :4], means['layers/image/attend'][0])
    np.testing.assert_array_equal(matrices(Late(), means, towers, encoded)[0], steps[0])
    assert matrices(Early(), {}, {}, encoded) == []


def test_what_a_decoder_takes_of_each_token():
    encoded = make_tokens(PAIR)
    sizes = [(4, 3), (2, 3), (4, 0)]

    def weights(decoder):
        return np.asarray(readout(decoder, encoded, method='rollout'))

    for b, (image, text) in enumerate(sizes):
        np.testing.assert_allclose(weights(MaskedMean())[b][real_of(encoded)[b]], 1 / (image + text), rtol=1e-6)
        halves = [x[b].sum() for x in np.split(weights(LogitSum()), [4], axis=1)]
        np.testing.assert_allclose(halves, [0.5, 0.5] if text else [1, 0], rtol=1e-6)
    np.testing.assert_array_equal(weights(ClassToken(streams=('text',)))[:2], np.eye(7)[[4, 4]])
    np.testing.assert_allclose(weights(MaskedMean(streams=('image',)))[1], [0.5, 0.5, 0, 0, 0, 0, 0])


def test_what_it_does_not_know():
    class Mine(Early):
        pass

    for design in (GatedCrossAttention(), Mine()):
        with pytest.raises(UserError, match=f'{type(design).__name__}.*use .integrated_gradients'):
            check_wiring(design, 'rollout')
    with pytest.raises(UserError, match='AttentionPool'):
        readout(AttentionPool(), make_tokens(PAIR), method='chefer')
