"""The block against NumPy, and the stack against a loop over its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.nn.block import REMAT, Block, PostNormBlock, Stack
from mmjax.nn.mlp import Mlp
from mmjax.types import Tokens

BLOCK = Block(attention=Attention(heads=2), mlp=Mlp(activation='relu'))
MASK = jnp.asarray([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
X = Tokens.of(jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 8)), jnp.float32), MASK)


def numpy_block(params, x, mask):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, p):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']

    def project(x, p):
        return np.einsum('nd,dhk->hnk', x, p['kernel']) + p['bias'][:, None, :]

    x = x.copy()
    for row, real in zip(x, mask, strict=True):  # rows of real tokens only: padding cannot matter by construction
        y = norm(row[real], p['norm_attention'])
        q, k, v = (project(y, p['attend'][name]) for name in ('query', 'key', 'value'))
        weights = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), axis=-1)
        row[real] += np.einsum('hnk,hkd->nd', weights @ v, p['attend']['out']['kernel']) + p['attend']['out']['bias']
        hidden = norm(row[real], p['norm_mlp']) @ p['feed_forward']['up']['kernel'] + p['feed_forward']['up']['bias']
        row[real] += np.maximum(hidden, 0) @ p['feed_forward']['down']['kernel'] + p['feed_forward']['down']['bias']
    return x


@pytest.mark.short
def test_block_is_that_of_numpy(random_parameters):
    params = random_parameters(BLOCK, X, train=False)
    found = jax.jit(lambda p, x: BLOCK.apply(p, x, train=False))(params, X).values
    expected = numpy_block(params['params'], np.asarray(X.values, np.float64), np.asarray(MASK))
    np.testing.assert_allclose(found[MASK], expected[MASK], atol=1e-4)


@pytest.mark.parametrize('wrong', [{'depth': -1}, {'unroll': 0}, {'remat': 'ful'}])
def test_wrong_stacks_are_told(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Stack(BLOCK, **{'depth': 2} | wrong).init(jax.random.key(0), X, train=False)


@pytest.mark.short
def test_stack_is_a_loop_over_its_layers(random_parameters):
    stack = Stack(BLOCK, depth=3)
    params = random_parameters(stack, X, train=False)
    layer, expected = jax.jit(lambda p, x: BLOCK.apply({'params': p}, x, train=False)), X
    for i in range(3):
        expected = layer(jax.tree.map(lambda leaf, i=i: leaf[i], params['params']['layers']), expected)
    found = jax.jit(lambda p, x: stack.apply(p, x, train=False))(params, X)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_layers_start_different_with_a_leading_axis_called_layers():
    # What `init` draws matters here, so it runs; the other tests draw their own parameters.
    boxed = jax.jit(lambda: Stack(BLOCK, depth=2).init(jax.random.key(0), X, train=False))()
    kernel = boxed['params']['layers']['feed_forward']['up']['kernel']
    assert kernel.names == ('layers', 'embed', 'mlp')
    assert np.abs(kernel.unbox()[0] - kernel.unbox()[1]).max() > 1e-2
    np.testing.assert_allclose(np.std(kernel.unbox()[1]), 8**-0.5, rtol=0.2)  # the fan-in is that of one layer


def test_remat_and_unroll_change_no_gradient(random_parameters):
    params = random_parameters(Stack(BLOCK, depth=2), X, train=False)

    def gradient(stack):
        return jax.jit(jax.grad(lambda p: (stack.apply(p, X, train=False).values ** 2).sum()))(params)

    plain = jax.tree.leaves(gradient(Stack(BLOCK, depth=2)))
    for other in (Stack(BLOCK, depth=2, remat='full', unroll=2), *(Stack(BLOCK, depth=2, remat=r) for r in REMAT)):
        for a, b in zip(plain, jax.tree.leaves(gradient(other)), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_dropout_in_training_only_and_different_in_every_layer(random_parameters):
    stack = Stack(BLOCK.clone(dropout=0.5), depth=2)
    params = random_parameters(stack, X, train=False)
    # Only the bias of the MLP's output is not zero: the first layer adds dropout(1), the second dropout(100).
    params = jax.tree.map(jnp.zeros_like, params)
    params['params']['layers']['feed_forward']['down']['bias'] += jnp.asarray([[1.0], [100.0]])
    run = jax.jit(
        lambda key, train: stack.apply(params, X, train=train, rngs={'dropout': key}).values - X.values,
        static_argnames='train',
    )
    np.testing.assert_allclose(run(jax.random.key(0), train=False), np.full((2, 4, 8), 101.0), rtol=1e-5)
    added = np.round(run(jax.random.key(0), train=True))
    first, second = added % 200 == 2, added >= 200
    assert set(np.unique(added)) == {0, 2, 200, 202} and (first != second).any()
    assert (added != np.round(run(jax.random.key(1), train=True))).any()


def test_depth_0_is_the_identity():
    stack = Stack(BLOCK, depth=0)
    assert not stack.init(jax.random.key(0), X, train=False)
    np.testing.assert_array_equal(stack.apply({}, X, train=False).values, X.values)


def test_a_post_norm_block_reads_a_context_in_place_of_itself(random_parameters):
    """Of itself it is that of BERT, which test_foreign.py shows."""
    block, other = PostNormBlock(attention=Attention(heads=2)), X.replace(values=X.values[:, ::-1])
    params = random_parameters(block, X, train=False)

    @jax.jit
    def run(params):
        contexts = None, X, other
        return [block.apply(params, X, train=False, context=context).values for context in contexts]

    alone, itself, elsewhere = (np.asarray(y) for y in run(params))
    np.testing.assert_allclose(itself, alone, atol=1e-5)
    assert np.abs(itself - elsewhere)[MASK].max() > 0.1
    norm = params['params']['norm_mlp']
    assert np.abs((((elsewhere - norm['bias']) / norm['scale']).mean(-1))[MASK]).max() < 1e-4  # the norm is last


def test_each_policy_computes_again_what_it_does_not_keep(random_parameters):
    """Matrix products of a layer's forward and backward pass: 8 and 2 x 8, and those that the policy computes twice."""
    params = random_parameters(Stack(BLOCK, depth=2), X, train=False)

    def products(remat):
        stack = Stack(BLOCK, depth=2, remat=remat)
        program = jax.grad(lambda p: (stack.apply(p, X, train=False).values ** 2).sum())
        return str(jax.make_jaxpr(program)(params)).count('dot_general[')

    none = products('none')
    again = {name: products(name) - none for name in REMAT}
    # All but the last, of the MLP, whose result nobody needs: q, k, v, scores, their product with v, out, up.
    assert again['full'] == 7
    # Attention's own two are there in its backward pass, which takes scores and probabilities anew.
    assert again['none'] == again['dots'] - 2 == 0
    assert again['attention'] < again['full'] and again['projections'] < again['attention']
    assert again['projections'] < again['offload'] < again['full']
