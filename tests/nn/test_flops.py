"""Counted FLOPs against the compiler's, and against a formula."""

import jax
import jax.numpy as jnp
import pytest

from mmjax.nn.flops import count_flops


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()['flops']


@pytest.mark.parametrize(
    ('function', 'shapes'),
    [
        (lambda a, b: a @ b, [(32, 64), (64, 128)]),
        (lambda a, b: jnp.einsum('bnhk,bmhk->bhnm', a, b), [(2, 8, 4, 16), (2, 12, 4, 16)]),
    ],
)
def test_products_are_counted_as_the_compiler_counts_them(function, shapes):
    args = [jnp.ones(shape) for shape in shapes]
    assert count_flops(function, *args) == pytest.approx(compiled(function, *args), rel=0.02)


def test_convolution():
    x, kernel = jnp.ones((2, 16, 16, 3)), jnp.ones((3, 3, 3, 8))

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    taps = 8 * 3 - 1  # along one axis: 'SAME' pads the last window by one
    assert count_flops(conv, x, kernel) == 2 * (2 * 8 * 3) * taps**2 == compiled(conv, x, kernel)


def test_a_scan_counts_its_body_as_often_as_it_runs():
    w = jnp.ones((5, 16, 16))

    def scanned(x, w):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    assert count_flops(scanned, jnp.ones((4, 16)), w) == 5 * 2 * 4 * 16 * 16
    assert count_flops(jax.checkpoint(jax.jit(scanned)), jnp.ones((4, 16)), w) == 5 * 2 * 4 * 16 * 16


def test_a_product_by_groups_counts_each_row_once():
    """With its gradients: three of them, whatever the number of groups."""
    x, kernel, sizes = jnp.ones((10, 4)), jnp.ones((3, 4, 5)), jnp.asarray([3, 0, 7])

    def product(x, kernel):
        return jax.lax.ragged_dot(x, kernel, sizes)

    assert count_flops(product, x, kernel) == 2 * 10 * 4 * 5
    both = jax.grad(lambda x, kernel: (product(x, kernel) ** 2).sum(), argnums=(0, 1))
    assert count_flops(both, x, kernel) == 3 * 2 * 10 * 4 * 5
