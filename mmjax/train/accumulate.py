"""The gradient of a batch that is too large for one pass: parts of it, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array

from mmjax.sharding import constrain
from mmjax.types import Deferred

Hold = Callable[[Any], Any]


def accumulated(
    gradient: Callable[..., Any], params: Any, seen: Any, key: jax.Array, *, parts: int, hold: Hold
) -> tuple[Any, Any]:
    """Of `gradient(params, seen, key) -> (gradients, sums)`, the sum over the parts of the batch: its losses divide by
    the whole weight. Enough where no example's loss depends on another's. hold: keeps gradients where their parameters
    live, so that what is accumulated takes no more room than they do.
    """

    def body(sums: Any, part: tuple[Any, Array]) -> tuple[Any, None]:
        result = gradient(params, part[0], jax.random.fold_in(key, part[1]))
        grads, rest = jax.tree.map(jnp.add, sums, result)
        return (hold(grads), rest), None

    batches = (_cut(seen, parts), jnp.arange(parts))
    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], batches[0]), key)
    grads, rest = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(body, (hold(grads), rest), batches)[0]


def accumulated_whole(
    run: Callable[..., Any],
    judge: Callable[..., Any],
    params: Any,
    seen: Any,
    key: jax.Array,
    *,
    parts: int,
    hold: Hold,
) -> tuple[Any, Any]:
    """The gradient of `judge(run(params, seen, key), seen) -> (loss, aux)`, and aux, with the outputs of all examples
    before the loss at once and those of one part's layers: each part runs twice (Gao et al. 2021, "Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup", section 3.2).
    """
    batches, keys = _cut(seen, parts), jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(parts))
    rows = jax.lax.map(lambda part: _apart(run(params, *part))[0], (batches, keys))
    same = _apart(run(params, *jax.tree.map(lambda x: x[0], (batches, keys))))[1]  # of parameters: nothing runs for it
    judged = jax.grad(lambda rows, same: judge(_whole(rows, same), seen), argnums=(0, 1), has_aux=True)
    (slopes, slope_same), aux = judged(_join(rows), same)

    def body(sums: Any, part: tuple[Any, Array, Any, Array]) -> tuple[Any, None]:
        batch, key, slope, number = part
        once = jax.tree.map(lambda x: jnp.where(number == 0, x, 0), slope_same)  # by one of the parts
        (grads,) = jax.vjp(lambda params: _apart(run(params, batch, key)), params)[1]((slope, once))
        return hold(jax.tree.map(jnp.add, sums, grads)), None

    start = hold(jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(body, start, (batches, keys, _cut(slopes, parts), jnp.arange(parts)))[0], aux


def _apart(outputs: Any) -> tuple[Any, Any]:
    """What has rows, and what is the same for all of them: the matrices of logits that are not computed yet."""
    nodes, form = jax.tree.flatten(outputs, is_leaf=lambda x: isinstance(x, Deferred))
    rows = [x.values if isinstance(x, Deferred) else x for x in nodes]
    same = [x.replace(values=None) if isinstance(x, Deferred) else None for x in nodes]
    return form.unflatten(rows), form.unflatten(same)


def _whole(rows: Any, same: Any) -> Any:
    """Undoes `_apart`."""
    return jax.tree.map(lambda x, rest: x if rest is None else rest.replace(values=x), rows, same)


def _cut(tree: Any, parts: int) -> Any:
    """Rows of a batch to parts of it: strided, so that each part has its share of every device's rows and nothing moves
    between devices.
    """

    def one(x: Array) -> Array:
        x = rearrange(x, '(b parts) ... -> parts b ...', parts=parts)
        return constrain(x, None, 'batch', *(None,) * (x.ndim - 2))

    return jax.tree.map(one, tree)


def _join(tree: Any) -> Any:
    """Undoes `_cut`."""

    def one(x: Array) -> Array:
        x = rearrange(x, 'parts b ... -> (b parts) ...')
        return constrain(x, 'batch', *(None,) * (x.ndim - 1))

    return jax.tree.map(one, tree)
