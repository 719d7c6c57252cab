"""One set of bits whatever the number of devices: a batch is summed in an order that is written down.

What a mesh adds up depends on how many devices it has: a device sums its own rows first, and the sums of all devices
come together in an order of the network's choice. Floats summed in another order are other floats. So the batch is cut
into `PORTIONS` equal portions, as many on two devices as on eight; a device runs its own one after the other, each by a
program of the same shapes; and of their gradients and losses, which move between devices as they are, the sum is
taken in the order of the portions. What follows is done with the whole gradient on every device.

That takes time, as a portion is smaller than what a device might do at once, and memory: while gradients are computed
every device has room for those of all portions, and the whole parameters, though a mesh may cut them in between.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mmjax.experiment import Experiment
from mmjax.sharding import AnyMesh, batch_parts
from mmjax.sharding.mapped import Place, shard_mapped
from mmjax.train.accumulate import accumulated
from mmjax.views.mined import Mined

PORTIONS = 8


def portions_of(experiment: Experiment) -> int:
    """Into how many portions a batch is cut, which the number of devices has no part in: at most `PORTIONS`, equal ones
    that can be accumulated.
    """
    rows = experiment.batch_size // experiment.optim.accumulate
    return next(n for n in range(PORTIONS, 0, -1) if rows % n == 0)


def obstacle(experiment: Experiment, mesh: AnyMesh | None) -> str:
    """Why the bits of a run would depend on the number of devices all the same; '' where they do not."""
    for name, objective in experiment.objectives.items():
        if objective.couples_rows or any(isinstance(view, Mined) for view in objective.views):
            return f'objective {name} compares the rows of a batch with one another'
    if mesh is None or mesh.empty:
        return ''
    parts, portions = batch_parts(mesh), portions_of(experiment)
    if parts != mesh.size:
        return 'the mesh cuts more than the batch'
    if portions % parts:
        return f'the mesh cuts a batch into {parts} parts, among which its {portions} portions cannot be shared out'
    return ''


def in_fixed_order(
    gradient: Callable[..., Any],
    params: Any,
    seen: Any,
    key: jax.Array,
    *,
    step: Int[Array, ''],
    portions: int,
    parts: int,
) -> Any:
    """Of `gradient(params, seen, key) -> (gradients, sums)`, the sum over the portions of the batch, on every device.

    parts: in which each portion is accumulated.
    """

    def one(params: Any, rows: Any, key: jax.Array) -> Any:
        if parts == 1:
            return gradient(params, rows, key)
        return accumulated(gradient, params, rows, key, parts=parts, hold=lambda grads: grads)

    def local(place: Place, params: Any, seen: Any, step: Array) -> Any:
        own = portions // place.parts('batch')
        never = step < 0  # which the compiler does not know
        first = place.index('batch') * own + jnp.where(never, 1, 0)
        cut = jax.tree.map(lambda x: rearrange(x, '(p b) ... -> p b ...', p=own), seen)
        # As many places as there are portions in all: the loop is then the same program, letter by letter, whatever the
        # number of devices. Where shapes of it differ, other operations are fused, and products rounded elsewhere.
        cut = jax.tree.map(lambda x: jnp.pad(x, ((0, portions - own), *((0, 0),) * (x.ndim - 1))), cut)
        shapes = jax.eval_shape(one, params, jax.tree.map(lambda x: x[0], cut), key)
        flat, back = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))

        def body(i: Array, found: Array) -> Array:
            rows = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), cut)
            result, _ = ravel_pytree(one(params, rows, jax.random.fold_in(key, first + i)))
            return jax.lax.dynamic_update_index_in_dim(found, result, i, 0)

        # A loop that the compiler knows to run once would be none, and be compiled with what is around it.
        count = jnp.where(never, 0, own)
        found = jax.lax.fori_loop(0, count, body, jnp.zeros((portions, flat.size), flat.dtype))
        return back(jax.lax.optimization_barrier(_summed(place, jax.lax.optimization_barrier(found)[:own])))

    (total,) = shard_mapped(lambda *x: (local(*x),), [(), ('batch',), ()], [()])(params, seen, step)
    return total


def _summed(place: Place, found: Float[Array, 'own n']) -> Float[Array, ' n']:
    """The sum over the portions of all devices. Each device sums all portions of its part of the numbers."""
    n = found.shape[1]
    found = jnp.pad(found, ((0, 0), (0, -n % place.parts('batch'))))
    rows = place.exchange(found, 'batch')
    return place.gather(functools.reduce(jnp.add, list(rows)), 'batch')[:n]
