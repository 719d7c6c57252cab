"""Sums over all pairs of two sets of vectors that are spread over devices, a block of pairs at a time.

Each device holds its rows of both sets. The second set goes around a ring: in P steps every device has met every part
of it, so that it holds one block of scores [b/P b/P] at a time, however many devices there are (for the sigmoid loss:
Zhai et al. 2023, section 3.3; for the softmax the sums over rows stay and those over columns travel). Gradients go
around once more, from the sums, so that nothing is kept of a block.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.sharding.mapped import Place, shard_mapped

EXACT = jax.lax.Precision.HIGHEST  # a score of a hundred in bfloat16, an accelerator's default, is off by tenths
LOW = -1e30  # of pairs that are none: exp of it is 0, and of LOW - LOW it is finite

ROWS = ('batch',)
PAIRS = [ROWS, ROWS, ROWS, (), ()]  # a, b, which rows are real, scale, bias

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
    def local(place: Place, a: Any, b: Any, real: Any, scale: Any, bias: Any) -> tuple[Array, Array]:
        def meet(rows: Any, part: Any) -> tuple[Any, Any]:
            other, there, columns = part
            scores = jnp.where(real[:, None] & there[None, :], _scores(a, other, scale, bias), LOW)
            return _add(rows, scores, axis=1), (other, there, _add(columns, scores, axis=0))

        nothing = (jnp.full(real.shape, LOW), jnp.zeros(real.shape))
        rows, (_, there, columns) = place.ring(meet, nothing, (b, real, nothing))
        return _log(rows, real), _log(columns, there)

    sums = shard_mapped(local, PAIRS, [ROWS] * 2)(a, b, real, scale, bias)
    return sums, (a, b, scale, bias, real, *sums)


def _log_sums_gradient(kept: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    def slope(scores: Any, pair: Any, of_rows: Any, of_columns: Any) -> Array:
        (rows, g), (columns, h) = of_rows, of_columns
        by_rows = jnp.where(pair, jnp.exp(jnp.where(pair, scores - rows[:, None], 0)), 0) * g[:, None]
        by_columns = jnp.where(pair, jnp.exp(jnp.where(pair, scores - columns[None, :], 0)), 0) * h[None, :]
        return by_rows + by_columns

    *inputs, rows, columns = kept
    return _gradient(slope, *inputs, of_rows=(rows, cotangents[0]), of_columns=(columns, cotangents[1]))


log_sums.defvjp(_log_sums, _log_sums_gradient)


@jax.custom_vjp
def softplus_sums(a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Bool[Array, 'b']) -> Float[Array, 'b']:
    """sum_j log(1 + exp(s_ij)) of each row i; s and real as in `log_sums`."""
    return _softplus_sums(a, b, scale, bias, real)[0]


def _softplus_sums(a: Vectors, b: Vectors, scale: Scalar, bias: Scalar, real: Array) -> tuple[Any, Any]:
    def local(place: Place, a: Any, b: Any, real: Any, scale: Any, bias: Any) -> tuple[Array]:
        def meet(sums: Any, part: Any) -> tuple[Any, Any]:
            other, there = part
            values = jax.nn.softplus(_scores(a, other, scale, bias))
            return sums + jnp.where(real[:, None] & there[None, :], values, 0).sum(axis=1), part

        return (place.ring(meet, jnp.zeros(real.shape), (b, real))[0],)

    (sums,) = shard_mapped(local, PAIRS, [ROWS])(a, b, real, scale, bias)
    return sums, (a, b, scale, bias, real)


def _softplus_sums_gradient(kept: Any, cotangent: Array) -> tuple[Any, ...]:
    def slope(scores: Any, pair: Any, of_rows: Any, of_columns: Any) -> Array:
        (g,) = of_rows
        return jnp.where(pair, jax.nn.sigmoid(scores) * g[:, None], 0)

    return _gradient(slope, *kept, of_rows=(cotangent,), of_columns=())


softplus_sums.defvjp(_softplus_sums, _softplus_sums_gradient)


def _scores(a: Array, b: Array, scale: Array, bias: Array) -> Array:
    return scale * jnp.einsum('id,jd->ij', a, b, precision=EXACT) + bias


def _gradient(
    slope: Callable[..., Array],
    a: Vectors,
    b: Vectors,
    scale: Scalar,
    bias: Scalar,
    real: Array,
    *,
    of_rows: tuple[Array, ...],
    of_columns: tuple[Array, ...],
) -> tuple[Any, ...]:
    """Gradients by a, b, scale, bias (and None by real), of a function whose derivative by the scores of a block is
    `slope(scores, pair, of_rows, of_columns)`; pair: which of them are of two real rows. of_rows stays, of_columns
    travels with the rows of b.
    """

    def local(place: Place, a: Any, b: Any, real: Any, scale: Any, bias: Any, *numbers: Any) -> tuple[Array, ...]:
        rows, columns = numbers[: len(of_rows)], numbers[len(of_rows) :]

        def meet(stay: Any, part: Any) -> tuple[Any, Any]:
            (da, dscale, dbias), (other, there, columns, db) = stay, part
            block = slope(_scores(a, other, scale, bias), real[:, None] & there[None, :], rows, columns)
            pulled = jnp.einsum('ij,jd->id', block, other, precision=EXACT)
            stay = (da + scale * pulled, dscale + (pulled * a).sum(), dbias + block.sum())
            return stay, (other, there, columns, db + scale * jnp.einsum('ij,id->jd', block, a, precision=EXACT))

        start = (jnp.zeros_like(a), jnp.zeros(()), jnp.zeros(()))
        (da, dscale, dbias), (*_, db) = place.ring(meet, start, (b, real, columns, jnp.zeros_like(b)))
        return da, db, dscale[None], dbias[None]

    numbers = (*of_rows, *of_columns)
    program = shard_mapped(local, [*PAIRS, *[ROWS] * len(numbers)], [ROWS] * 4)
    da, db, dscale, dbias = program(a, b, real, scale, bias, *numbers)
    return da, db, dscale.sum(), dbias.sum(), None


def _add(so_far: tuple[Array, Array], scores: Array, *, axis: int) -> tuple[Array, Array]:
    """Adds exp(scores) to sums that are kept as (greatest score, sum relative to it): Milakov & Gimelshein 2018."""
    top, total = so_far
    new = jnp.maximum(top, scores.max(axis=axis))
    block = jnp.exp(scores - jnp.expand_dims(new, axis)).sum(axis=axis)
    return new, total * jnp.exp(top - new) + block


def _log(sums: tuple[Array, Array], real: Array) -> Array:
    top, total = sums
    return jnp.where(real, top + jnp.log(jnp.where(real, total, 1)), 0)
