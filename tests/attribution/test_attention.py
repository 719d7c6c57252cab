"""Captured attention: the same numbers as without, by whom and of whom, and gradients that are derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.attribution.attention import capture, owners
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.coattention import Coattention
from mmjax.fusion.early import Early
from mmjax.fusion.experts import Experts, Multiway
from mmjax.fusion.isolated import Isolated
from mmjax.fusion.resampler import Resampler
from mmjax.nn import attention
from tests.attribution.small import around, logits, parameters
from tests.fusion.designs import LENGTHS, PAIR, TRIPLE, build, make_tokens

TARGET = jnp.asarray([0, 1, 2])


def captured(design, names, random_parameters, **changes):
    encoded = make_tokens(names)
    model = around(build(design, **changes), names)
    params = parameters(model, encoded, random_parameters)
    return model, params, encoded, *capture(model, params, encoded, output='answer', target=TARGET)


def tokens_of(*names):
    return tuple(name for name in names for _ in range(LENGTHS[name]))


@pytest.mark.parametrize('changes', [{}, {'remat': 'full'}], ids=str)
def test_capturing_changes_no_number(changes, random_parameters):
    model, params, encoded, seen, maps = captured(Early, PAIR, random_parameters, **changes)
    np.testing.assert_allclose(seen, logits(model, params, encoded), atol=1e-6)
    (path, found), *rest = maps.items()
    assert path == 'stack/layers/attend' and not rest
    assert found.probabilities.shape == (2, 3, 2, 7, 7)
    sums = np.asarray(found.probabilities).sum(-1)
    real = np.concatenate([np.asarray(encoded[name].mask) for name in PAIR], axis=1)
    np.testing.assert_allclose(sums, np.broadcast_to(real[:, None, :], sums.shape), atol=1e-6)


def test_nothing_is_kept_where_nobody_asks(monkeypatch):
    monkeypatch.setattr(attention, '_attend_in_the_open', None)
    encoded, model = make_tokens(PAIR), build(Early, depth=1)
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), encoded, train=False))
    assert set(made) == {'params'}
    jax.eval_shape(lambda params: model.apply(params, encoded, train=False), made)


def whose(design, names, random_parameters, **changes):
    encoded, model = make_tokens(names), around(build(design, **changes), names)
    return owners(model, parameters(model, encoded, random_parameters), encoded)


def test_who_reads_whom_in_the_order_of_the_calls(random_parameters):
    found = whose(Coattention, TRIPLE, random_parameters, depth=1)
    assert list(found.items()) == [
        ('layers/cross_audio', (tokens_of('audio'), tokens_of('image', 'text'))),
        ('layers/block_audio/attend', (tokens_of('audio'), tokens_of('audio'))),
        ('layers/cross_image', (tokens_of('image'), tokens_of('audio', 'text'))),
        ('layers/block_image/attend', (tokens_of('image'), tokens_of('image'))),
        ('layers/cross_text', (tokens_of('text'), tokens_of('audio', 'image'))),
        ('layers/block_text/attend', (tokens_of('text'), tokens_of('text'))),
    ]


@pytest.mark.parametrize(
    ('design', 'path'), [(Experts, 'layers'), (Multiway, 'layers/attend'), (Isolated, 'stack/layers/attend')]
)
def test_attention_over_the_joined_tokens(design, path, random_parameters):
    assert whose(design, PAIR, random_parameters, depth=1) == {path: (tokens_of(*PAIR), tokens_of(*PAIR))}


def test_attention_that_belongs_to_no_module_of_its_own_is_captured(random_parameters):
    model, params, encoded, seen, maps = captured(Experts, PAIR, random_parameters, depth=1)
    np.testing.assert_allclose(seen, logits(model, params, encoded), atol=1e-6)
    assert maps['layers'].probabilities.shape == (1, 3, 2, 7, 7)


def test_tokens_of_a_design_belong_to_the_modality_that_they_stand_for(random_parameters):
    found = whose(Bottleneck, PAIR, random_parameters, depth=2, fusion_layer=1)
    assert list(found) == [
        'towers/image/layers/attend',
        'towers/text/layers/attend',
        'exchange/image/attend',
        'exchange/text/attend',
    ]
    assert found['exchange/text/attend'][0] == ('text',) * (LENGTHS['text'] + 4)
    found = whose(Resampler, PAIR, random_parameters, depth=1, num_tokens=2)
    assert found['resample_image/block/attend'] == (('image',) * 2, ('image',) * (LENGTHS['image'] + 2))
    assert found['early/stack/layers/attend'][1] == ('image', 'image', 'text', 'text')


def test_gradients_are_derivatives_with_respect_to_the_probabilities(random_parameters):
    """Finite differences: a little more of one probability, in one layer, of one example."""
    model, params, encoded, _, maps = captured(Early, PAIR, random_parameters)
    found = maps['stack/layers/attend']

    @jax.jit
    def score(offset):
        tree = {'fusion': {'stack': {'layers': {'attend': {'probabilities': offset}}}}}
        variables = {'params': params, 'perturbations': tree}

        def run(module, encoded):
            return module.decode(encoded, module.fusion(encoded, train=False))

        outputs, _ = model.apply(variables, encoded, method=run, mutable=['intermediates'])
        return outputs['answer'][jnp.arange(3), TARGET]

    zeros, size = jnp.zeros(found.probabilities.shape), 1e-2
    for at in ((0, 0, 1, 2, 5), (1, 2, 0, 3, 0), (0, 1, 1, 6, 6)):
        slope = (score(zeros.at[at].set(size)) - score(zeros.at[at].set(-size))) / (2 * size)
        assert float(found.gradients[at]) == pytest.approx(float(slope[at[1]]), abs=2e-3)
        np.testing.assert_allclose(np.delete(slope, at[1]), 0, atol=1e-6)  # examples do not see one another
