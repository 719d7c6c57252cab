"""Integrated gradients: exact where the model is linear, complete where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.attribution.integrated import integrated_gradients, modality_share, path
from mmjax.decoders.classification import LogitSum, MaskedMean
from mmjax.errors import UserError
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.early import Early
from mmjax.fusion.grid import Grid
from mmjax.fusion.late import Late
from mmjax.nn.norm import NoNorm
from tests.attribution.small import around, logits, parameters, with_values
from tests.fusion.designs import BATCH, PAIR, build, make_tokens

TARGET = jnp.asarray([0, 1, 2])


@pytest.fixture
def linear(random_parameters):
    """logits = Σ_m W_m mean(Z_m) + b_m."""
    encoded = make_tokens(PAIR)
    model = around(build(Late, depth=0, entry_norm=NoNorm()), PAIR, LogitSum(classes=3, norm=NoNorm()))
    return model, parameters(model, encoded, random_parameters), encoded


@pytest.mark.parametrize('steps', [1, 5])
def test_of_a_linear_model_it_is_gradient_times_input(linear, steps):
    model, params, encoded = linear
    found = integrated_gradients(model, params, encoded, target=TARGET, steps=steps)
    for name, x in encoded.items():
        kernel = np.asarray(params['decoders_answer'][f'logits_{name}']['kernel'])
        real = np.asarray(x.mask, float)
        slope = kernel.T[TARGET][:, None, :] * (real / np.maximum(real.sum(1, keepdims=True), 1))[:, :, None]
        np.testing.assert_allclose(found.attributions[name], (slope * x.values).sum(-1), atol=1e-5)
    np.testing.assert_allclose(found.gap, 0, atol=1e-4)


@pytest.mark.parametrize('design', [Early, Bottleneck, Grid], ids=lambda cls: cls.__name__)
def test_attributions_sum_to_the_change_of_the_score(design, random_parameters):
    changes = {'depth': 1, 'fusion_layer': 0}
    encoded, model = make_tokens(PAIR), around(build(design, **changes), PAIR)
    params = parameters(model, encoded, random_parameters)
    found = integrated_gradients(model, params, encoded, target=TARGET)
    change = logits(model, params, encoded) - logits(
        model, params, with_values(encoded, {name: 0 * x.values for name, x in encoded.items()})
    )
    change = np.asarray(change)[np.arange(BATCH), TARGET]
    total = sum(np.asarray(x).sum(1) for x in found.attributions.values())
    error = np.abs(total - change) / np.abs(change)
    np.testing.assert_allclose(found.gap, error, atol=1e-3)
    assert error.max() < 0.01
    for name, x in encoded.items():
        assert not np.any(np.asarray(found.attributions[name])[~np.asarray(x.mask)])


def test_equal_steps_walk_past_what_a_norm_on_entry_does(random_parameters):
    encoded, model = make_tokens(PAIR), around(build(Late, depth=0), PAIR, MaskedMean(classes=3, norm=NoNorm()))
    params = parameters(model, encoded, random_parameters)
    values = {name: x.values for name, x in encoded.items()}
    score = jax.jit(lambda a: logits(model, params, with_values(encoded, {k: a * v for k, v in values.items()}))[:, 0])
    slope = jax.jit(lambda a: jax.jvp(score, (a,), (1.0,))[1])
    change = score(1.0) - score(0.0)

    def missed(points, weights):
        return np.abs(sum(w * slope(float(a)) for a, w in zip(points, weights, strict=True)) / change - 1)

    assert missed((np.arange(64) + 0.5) / 64, np.full(64, 1 / 64)).min() > 0.9
    assert missed(*path(64)).max() < 1e-3


@pytest.mark.parametrize('steps', [1, 2, 64, 300])
def test_path(steps):
    points, weights = path(steps)
    assert (np.diff(points) > 0).all() and points.min() > 0 and points.max() < 1
    assert (weights > 0).all() and weights.sum() == pytest.approx(1, abs=1e-5)
    if steps >= 64:
        for power in (1, 2, 5):
            assert (weights * points**power).sum() == pytest.approx(1 / (power + 1), abs=1e-5)


def test_modality_share():
    share = modality_share({'image': jnp.asarray([[1.0, -2.0], [0, 0]]), 'text': jnp.asarray([[-1.0], [0]])})
    np.testing.assert_allclose(share['image'], [0.75, 0])
    np.testing.assert_allclose(share['text'], [0.25, 0])


def test_mistakes(linear):
    for options, said in (
        ({'output': 'anwser'}, "did you mean 'answer'"),
        ({'steps': 0}, 'steps: 0'),
    ):
        with pytest.raises(UserError, match=said):
            integrated_gradients(*linear, target=TARGET, **options)
