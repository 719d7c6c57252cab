"""Sums over all pairs of two sets of vectors that are spread over devices, a block of pairs at a time.

Each device holds its rows of both sets. The second set goes around a ring: in P steps every device has met every part
of it, so that it holds one block of scores [b/P b/P] at a time, however many devices there are (for the sigmoid loss:
Zhai et al. 2023, section 3.3; for the softmax the sums over rows stay and those over columns travel). Gradients go
around once more, from the sums, so that nothing is kept of a block.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.sharding import shard_mapped

EXACT = jax.lax.Precision.HIGHEST  # a score of a hundred in bfloat16, an accelerator's default, is off by tenths
LOW = -1e30  # of pairs that are none: exp of it is 0, and of LOW - LOW it is finite

Vectors = Float[Array, 'b d']
Scalar = Float[Array, '']


@jax.custom_vjp
def log_sums(
    a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Bool[Array, 'b']
) -> tuple[Float[Array, 'b'], Float[Array, 'b']]:
    """log sum_j exp(s_ij) of each row i, and log sum_i exp(s_ij) of each column j; s = scale a b^T + bias.

    real: the rows of both sets that exist; of others the sums are 0, and they take part in none.
    """
    return _log_sums(a, b, scale, bias, real)[0]


def _log_sums(a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Array) -> tuple[Any, Any]:
    def local(ring: Any, a: Any, b: Any, real: Any, scale: Any, bias: Any) -> tuple[Array, Array]:
        def meet(rows: Any, part: Any) -> tuple[Any, Any]:
            other, there, columns = part
            scores = jnp.where(real[:, None] & there[None, :], _scores(a, other, scale, bias), LOW)
            return _add(rows, scores, axis=1), (other, there, _add(columns, scores, axis=0))

        nothing = (jnp.full(real.shape, LOW), jnp.zeros(real.shape))
        rows, (_, there, columns) = ring(meet, nothing, (b, real, nothing))
        return _log(rows, real), _log(columns, there)

    sums = shard_mapped(local, 'bbb..', 'bb')(a, b, real, scale, bias)
    return sums, (a, b, scale, bias, real, *sums)


def _log_sums_gradient(kept: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    def local(ring: Any, a: Any, b: Any, real: Any, rows: Any, columns: Any, g: Any, h: Any, scale: Any, bias: Any):
        def meet(stay: Any, part: Any) -> tuple[Any, Any]:
            other, there, log, weight, grad = part
            pair = real[:, None] & there[None, :]
            scores = _scores(a, other, scale, bias)
            of_rows = jnp.where(pair, jnp.exp(jnp.where(pair, scores - rows[:, None], 0)), 0) * g[:, None]
            of_columns = jnp.where(pair, jnp.exp(jnp.where(pair, scores - log[None, :], 0)), 0) * weight[None, :]
            stay, grad = _spread(stay, grad, of_rows + of_columns, a, other, scale)
            return stay, (other, there, log, weight, grad)

        start = (jnp.zeros_like(a), jnp.zeros(()), jnp.zeros(()))
        (da, dscale, dbias), part = ring(meet, start, (b, real, columns, h, jnp.zeros_like(b)))
        return da, part[-1], dscale[None], dbias[None]

    a, b, scale, bias, real, rows, columns = kept
    program = shard_mapped(local, 'bbbbbbb..', 'bbbb')
    da, db, dscale, dbias = program(a, b, real, rows, columns, *cotangents, scale, bias)
    return da, db, dscale.sum(), dbias.sum(), None


log_sums.defvjp(_log_sums, _log_sums_gradient)


@jax.custom_vjp
def softplus_sums(a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Bool[Array, 'b']) -> Float[Array, 'b']:
    """sum_j log(1 + exp(s_ij)) of each row i; s and real as in `log_sums`."""
    return _softplus_sums(a, b, scale, bias, real)[0]


def _softplus_sums(a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Array) -> tuple[Any, Any]:
    def local(ring: Any, a: Any, b: Any, real: Any, scale: Any, bias: Any) -> tuple[Array]:
        def meet(sums: Any, part: Any) -> tuple[Any, Any]:
            other, there = part
            values = jax.nn.softplus(_scores(a, other, scale, bias))
            return sums + jnp.where(real[:, None] & there[None, :], values, 0).sum(axis=1), part

        return (ring(meet, jnp.zeros(real.shape), (b, real))[0],)

    (sums,) = shard_mapped(local, 'bbb..', 'b')(a, b, real, scale, bias)
    return sums, (a, b, scale, bias, real)


def _softplus_sums_gradient(kept: Any, cotangent: Array) -> tuple[Any, ...]:
    def local(ring: Any, a: Any, b: Any, real: Any, g: Any, scale: Any, bias: Any):
        def meet(stay: Any, part: Any) -> tuple[Any, Any]:
            other, there, grad = part
            slope = jax.nn.sigmoid(_scores(a, other, scale, bias)) * g[:, None]
            slope = jnp.where(real[:, None] & there[None, :], slope, 0)
            stay, grad = _spread(stay, grad, slope, a, other, scale)
            return stay, (other, there, grad)

        start = (jnp.zeros_like(a), jnp.zeros(()), jnp.zeros(()))
        (da, dscale, dbias), part = ring(meet, start, (b, real, jnp.zeros_like(b)))
        return da, part[-1], dscale[None], dbias[None]

    a, b, scale, bias, real = kept
    da, db, dscale, dbias = shard_mapped(local, 'bbbb..', 'bbbb')(a, b, real, cotangent, scale, bias)
    return da, db, dscale.sum(), dbias.sum(), None


softplus_sums.defvjp(_softplus_sums, _softplus_sums_gradient)


def _scores(a: Array, b: Array, scale: Array, bias: Array) -> Array:
    return scale * jnp.einsum('id,jd->ij', a, b, precision=EXACT) + bias


def _spread(stay: Any, grad: Array, slope: Array, a: Array, other: Array, scale: Array) -> tuple[Any, Array]:
    """Adds a block's part to the gradients of what stays (a, scale, bias) and of the vectors that travel."""
    da, dscale, dbias = stay
    da = da + scale * jnp.einsum('ij,jd->id', slope, other, precision=EXACT)
    dscale = dscale + (slope * jnp.einsum('id,jd->ij', a, other, precision=EXACT)).sum()
    return (da, dscale, dbias + slope.sum()), grad + scale * jnp.einsum('ij,id->jd', slope, a, precision=EXACT)


def _add(so_far: tuple[Array, Array], scores: Array, *, axis: int) -> tuple[Array, Array]:
    """Adds exp(scores) to sums that are kept as (greatest score, sum relative to it): Milakov & Gimelshein 2018."""
    top, total = so_far
    new = jnp.maximum(top, scores.max(axis=axis))
    block = jnp.exp(scores - jnp.expand_dims(new, axis)).sum(axis=axis)
    return new, total * jnp.exp(top - new) + block


def _log(sums: tuple[Array, Array], real: Array) -> Array:
    top, total = sums
    return jnp.where(real, top + jnp.log(jnp.where(real, total, 1)), 0)
