"""Norms, feed-forward networks, dense and convolutional layers against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from mmjax.errors import UserError
from mmjax.nn.conv import Conv2d
from mmjax.nn.dense import Dense, activation
from mmjax.nn.mlp import Mlp, SwiGLU
from mmjax.nn.norm import LayerNorm, NoNorm, OnePlusRMSNorm, RMSNorm


def draw(*shape, seed=0, around=0.0):
    return jnp.asarray(around + np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def as_numpy(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params['params'])


def test_layer_norm(random_parameters):
    x = draw(2, 3, 16, around=4)
    params = random_parameters(LayerNorm(), x)
    p, y = as_numpy(params), np.asarray(x, np.float64)
    expected = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']
    np.testing.assert_allclose(LayerNorm().apply(params, x), expected, atol=1e-5)


def test_rms_norm(random_parameters):
    x = draw(2, 3, 16, around=4)
    params = random_parameters(RMSNorm(), x)
    y = np.asarray(x, np.float64)
    expected = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * as_numpy(params)['scale']
    np.testing.assert_allclose(RMSNorm().apply(params, x), expected, atol=1e-5)


def test_norms_take_statistics_in_float32():
    x = (
        jnp.full((1, 256), 300.0, jnp.bfloat16).at[0, ::2].set(301.0)
    )  # 301 is 302 in bfloat16; its square needs more bits
    y = RMSNorm().apply({'params': {'scale': jnp.ones(256)}}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.square(np.asarray(y, np.float64)).mean(), 1, atol=5e-3)


def test_no_norm():
    np.testing.assert_array_equal(NoNorm().apply({}, draw(2, 4)), draw(2, 4))


def test_mlp(random_parameters):
    x, module = draw(2, 3, 8), Mlp(ratio=2.0, activation='gelu_exact')
    params = random_parameters(module, x)
    p = as_numpy(params)
    hidden = np.asarray(x, np.float64) @ p['up']['kernel'] + p['up']['bias']
    assert hidden.shape[-1] == 16
    expected = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))) @ p['down']['kernel'] + p['down']['bias']
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


def test_swiglu(random_parameters):
    x, module = draw(2, 3, 12), SwiGLU()
    params = random_parameters(module, x)
    p, y = as_numpy(params), np.asarray(x, np.float64)
    gate = y @ p['gate']['kernel']
    assert gate.shape[-1] == 32 and set(p['gate']) == {'kernel'}
    expected = (gate / (1 + np.exp(-gate)) * (y @ p['up']['kernel'])) @ p['down']['kernel']
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


def test_dense_contracts_several_axes(random_parameters):
    x, module = draw(2, 3, 4, 5), Dense((6, 7), ('heads', 'head_dim', 'embed', 'mlp'))
    params = random_parameters(module, x)
    p = as_numpy(params)
    expected = np.einsum('abij,ijkl->abkl', np.asarray(x, np.float64), p['kernel']) + p['bias']
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-4)


def test_dense_starts_with_the_variance_of_its_fan_in():
    kernel = Dense((64,), ('heads', 'head_dim', 'embed')).init(jax.random.key(0), jnp.zeros((1, 8, 32)))['params'][
        'kernel'
    ]
    np.testing.assert_allclose(np.std(kernel.unbox()), 1 / np.sqrt(8 * 32), rtol=0.03)


def test_dense_computes_in_the_dtype_of_its_parameters(random_parameters):
    x, module = draw(2, 4), Dense((3,), ('embed', 'mlp'))
    assert module.apply(random_parameters(module, x, dtype='bfloat16'), x).dtype == jnp.bfloat16


def test_unknown_activation():
    with pytest.raises(UserError, match="unknown 'gleu'; did you mean 'gelu'"):
        activation('gleu')


@pytest.mark.parametrize(('size', 'kernel', 'stride'), [(6, 3, 1), (6, 3, 2), (5, 3, 2), (4, 2, 2)])
def test_conv_is_the_naive_loop(random_parameters, size, kernel, stride):
    x, module = draw(2, size, size, 3), Conv2d(4, kernel, stride)
    params = random_parameters(module, x)
    p = as_numpy(params)
    out = -(-size // stride)
    missing = max((out - 1) * stride + kernel - size, 0)  # 'SAME': the odd pixel of padding comes after
    around = (missing // 2, missing - missing // 2)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), around, around, (0, 0)))
    expected = np.empty((2, out, out, 4))
    for b, i, j, f in np.ndindex(expected.shape):
        window = padded[b, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        expected[b, i, j, f] = (window * p['kernel'][..., f]).sum() + p['bias'][f]
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


def test_weights_of_another_shape(random_parameters):
    params = random_parameters(LayerNorm(), draw(2, 16))
    with pytest.raises(UserError, match=r'scale: the weights given have shape \[16\], .* need \[8\]'):
        LayerNorm().apply(params, draw(2, 8))


def test_a_scale_of_one_plus_s_starts_as_the_root_mean_square_alone(random_parameters):
    x = draw(2, 3, 16, around=4)
    params = random_parameters(OnePlusRMSNorm(), x)
    y = np.asarray(x, np.float64)
    unit = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(OnePlusRMSNorm().apply(params, x), unit * (1 + as_numpy(params)['excess']), atol=1e-5)
    np.testing.assert_allclose(OnePlusRMSNorm().apply(OnePlusRMSNorm().init(jax.random.key(0), x), x), unit, atol=1e-5)


def test_quick_gelu():
    x = draw(100)
    np.testing.assert_allclose(activation('quick_gelu')(x), x / (1 + np.exp(-1.702 * np.asarray(x))), atol=1e-6)
