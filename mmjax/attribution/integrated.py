"""Integrated gradients of the encoders' tokens: for every design of fusion, and for what follows it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from mmjax.attribution.scoring import Encoded, Scores, fuse_and_decode, of_target, predicted, the_output
from mmjax.errors import UserError
from mmjax.model import Model

STEPS = 256
"""More make `gap` smaller: look at it, for a trained model is steeper along the path than a fresh one."""

FINEST = 1e-4
"""The path from z' to z is walked evenly in log(1 + a / FINEST), not in a. For tokens meet a norm on entry
(`Fusion.entry_norm`), which takes out their scale: norm(a z) is norm(z) as soon as a·std(z) is well above
sqrt(epsilon) = 0.001, so that from zeros the output moves only where a is about that small. The usual equal steps in a
walk past it: 64 of them miss more than nine tenths of F(z) - F(z') (tests/attribution)."""


@struct.dataclass
class Integrated:
    """attributions: of each token, by modality. gap: |sum of all - (F(z) - F(z'))| / |F(z) - F(z')| of each example."""

    attributions: Scores
    gap: Float[Array, 'b']


def integrated_gradients(
    model: Model,
    params: Any,
    encoded: Encoded,
    *,
    target: Int[Array, 'b'] | None = None,
    output: str | None = None,
    steps: int = STEPS,
) -> Integrated:
    """IG = (z - z') ∫ ∂F(z' + a (z - z')) / ∂z da over a in 0..1, summed over the width of a token.

    Sundararajan, Taly & Yan 2017, eq. 1; along one straight path for the tokens of all modalities together. By
    completeness (proposition 1) all attributions of an example sum to F(z) - F(z'); `gap` is what the integral misses.
    A gap above 0.01 asks for more steps: where F nearly jumps on the path (square roots at zero, a gate that turns its
    sign under a norm) there may be many.

    F is the logit of the target, z' is zeros; masks stay. target: the class explained, by default the predicted one.
    steps: points of `path`.
    """
    output = the_output(model, output)
    if steps < 1:
        raise UserError(f'steps: {steps} is below 1')
    target = predicted(model, params, encoded, output=output) if target is None else jnp.asarray(target)
    end = {name: tokens.values for name, tokens in encoded.items()}
    run = jax.jit(_integrate, static_argnames=('score_of', 'steps'))

    def score_of(params: Any, encoded: Encoded, values: Any) -> Float[Array, 'b']:
        moved = {name: tokens.replace(values=values[name]) for name, tokens in encoded.items()}
        return of_target(fuse_and_decode(model, {'params': params}, moved)[output], target)

    return Integrated(*run(params, dict(encoded), end, score_of=score_of, steps=steps))


def _integrate(params: Any, encoded: Any, end: Any, *, score_of: Any, steps: int) -> tuple[Any, Any]:
    start = jax.tree.map(jnp.zeros_like, end)
    gradient = jax.grad(lambda values: score_of(params, encoded, values).sum())

    def add(total: Any, point: tuple[Array, Array]) -> tuple[Any, None]:
        a, weight = point
        slopes = gradient(jax.tree.map(lambda z: a * z, end))
        return jax.tree.map(lambda t, s: t + weight * s, total, slopes), None

    points, weights = map(jnp.asarray, path(steps))
    mean = jax.lax.scan(add, start, (points, weights))[0]
    attributions = {name: (slope * end[name]).sum(axis=-1) for name, slope in mean.items()}
    change = score_of(params, encoded, end) - score_of(params, encoded, start)
    total = jnp.stack([x.sum(axis=-1) for x in attributions.values()]).sum(axis=0)
    return attributions, jnp.abs(total - change) / jnp.maximum(jnp.abs(change), jnp.finfo(change.dtype).tiny)


def path(steps: int) -> tuple[Float[np.ndarray, 's'], Float[np.ndarray, 's']]:
    """Points a and their weights, by Gauss-Legendre in t of a = FINEST·((1 + 1/FINEST)^t - 1); the weights sum to 1.

    Where F is smooth along the path it converges faster than any power of `steps`; with kinks, as the midpoint rule.
    """
    roots, weights = np.polynomial.legendre.leggauss(steps)
    rate, t = np.log1p(1 / FINEST), (roots + 1) / 2
    weights = weights * np.exp(rate * t)
    return (FINEST * np.expm1(rate * t)).astype(np.float32), (weights / weights.sum()).astype(np.float32)


def modality_share(attributions: Scores) -> dict[str, Float[Array, 'b']]:
    """Sum of |attribution| over a modality's tokens, divided by that over all tokens; zeros where all are zero."""
    sums = {name: jnp.abs(jnp.asarray(x)).sum(axis=-1) for name, x in attributions.items()}
    total = jnp.stack(list(sums.values())).sum(axis=0)
    return {name: jnp.where(total > 0, x / jnp.where(total > 0, total, 1), 0) for name, x in sums.items()}
