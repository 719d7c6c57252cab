"""A mixture of experts against a loop over tokens, on a mesh, and what it tells of itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from mmjax.errors import UserError
from mmjax.nn.experts import MixtureOfExperts
from mmjax.nn.mlp import Mlp, SwiGLU
from mmjax.sharding import MeshShape
from mmjax.types import Tokens

LENGTHS, WIDTH, EXPERTS = (3, 2), 8, 4
MASK = np.ones((8, 5), bool)
MASK[1, 2] = MASK[2, 3:] = MASK[3] = False
X = Tokens.of(jnp.asarray(np.random.default_rng(0).standard_normal((8, 5, WIDTH)), jnp.float32), jnp.asarray(MASK))
MIXTURES = {
    'mlp': MixtureOfExperts(Mlp(ratio=2.0, activation='relu'), EXPERTS),
    'swiglu': MixtureOfExperts(SwiGLU(), EXPERTS, 3),
}


def in_numpy(module, p, x):
    """One token after the other: its choices, and what it is given."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    logits = x @ p['router']
    gates, total = softmax(logits), np.zeros(WIDTH)
    chosen = np.argsort(-gates)[: module.top_k]
    for e in chosen:
        up = x @ p['up']['kernel'][e] + (p['up']['bias'][e] if module.expert.bias else 0)
        if 'gate' in p:
            gate = x @ p['gate']['kernel'][e]
            hidden = gate / (1 + np.exp(-gate)) * up
        else:
            hidden = np.maximum(up, 0)
        total += gates[e] * (hidden @ p['down']['kernel'][e] + (p['down']['bias'][e] if module.expert.bias else 0))
    load = np.isin(np.arange(EXPERTS), chosen)
    z = np.full(EXPERTS, logsumexp(logits) ** 2 / EXPERTS)
    return total, np.stack([load, gates, -gates * np.log(gates), z])


@pytest.mark.parametrize('name', MIXTURES)
def test_a_mixture_is_a_loop_over_tokens(random_parameters, name):
    module = MIXTURES[name]
    params = random_parameters(module, X, LENGTHS)
    found, told = jax.jit(lambda p: module.apply(p, X, LENGTHS))(params)
    values, expected = np.asarray(X.values, np.float64), np.zeros(told.shape)
    for b, n in np.ndindex(MASK.shape):
        y = 0
        if MASK[b, n]:
            y, of_token = in_numpy(module, params['params'], values[b, n])
            expected[b, int(n >= LENGTHS[0])] += of_token
        np.testing.assert_allclose(found[b, n], y, atol=1e-5)
    np.testing.assert_allclose(told, expected, atol=1e-4)


@pytest.mark.parametrize(
    'shape', [MeshShape(data=2, fsdp=2, tensor=2), MeshShape(data=2, expert=4), MeshShape(expert=2, tensor=2)], ids=str
)
def test_on_a_mesh_it_is_the_same_with_its_gradients(random_parameters, shape):
    module = MIXTURES['mlp']
    params = random_parameters(module, X, LENGTHS)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, values):
        y, told = module.apply(params, X.replace(values=values), LENGTHS)
        return (y**2).sum() + (told[..., 1, :] ** 2).sum(), (y, told)

    alone = run(params, X.values)
    with jax.set_mesh(shape.build()):
        spread = run(params, X.values)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-4)


def test_weights_have_an_axis_of_experts():
    boxed = jax.eval_shape(lambda: MIXTURES['mlp'].init(jax.random.key(0), X, LENGTHS))['params']
    assert boxed['up']['kernel'].names == ('expert', 'expert_embed', 'mlp')
    assert boxed['up']['bias'].names == ('expert', 'mlp')
    assert boxed['down']['kernel'].names == ('expert', 'mlp', 'expert_embed')
    assert boxed['router'].names == ('embed', None)


def test_each_expert_starts_with_the_variance_of_one():
    module = MixtureOfExperts(Mlp(), 2)
    params = jax.jit(lambda: module.init(jax.random.key(0), X.replace(values=jnp.zeros((8, 5, 64))), LENGTHS))()
    kernel = params['params']['up']['kernel'].unbox()
    np.testing.assert_allclose(np.std(kernel, axis=(1, 2)), 64**-0.5, rtol=0.05)
    assert (kernel[0] != kernel[1]).any()


@pytest.mark.parametrize('top_k', [0, 5])
def test_more_experts_a_token_than_there_are(top_k):
    with pytest.raises(UserError, match=f'top_k: {top_k} of 4 experts'):
        MixtureOfExperts(Mlp(), 4, top_k).init(jax.random.key(0), X, LENGTHS)
