"""Collectives by hand: a function of each device's part of its arguments, which names logical axes as all do."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from mmjax.sharding import TABLE, current_mesh, partition_spec

Axes = tuple[str | None, ...]  # of the first dimensions of an array; the others are whole


class Place:
    """Where a device stands on the mesh, and what it may exchange with the others. Without a mesh it is alone."""

    def __init__(self, mesh: Any):
        self._sizes = {} if mesh.empty else dict(mesh.shape)

    def parts(self, axis: str) -> int:
        """Into how many parts a logical axis is cut."""
        return math.prod(self._sizes.get(name, 1) for name in TABLE[axis][1])

    def index(self, axis: str) -> Any:
        """The number of this device's part."""
        return jax.lax.axis_index(TABLE[axis][1]) if self.parts(axis) > 1 else 0

    def sum(self, x: jax.Array, axis: str) -> jax.Array:
        """The sum over the devices along a logical axis, on each of them."""
        return jax.lax.psum(x, TABLE[axis][1]) if self.parts(axis) > 1 else x

    def gather(self, x: jax.Array, axis: str, *, dim: int = 0) -> jax.Array:
        """The rows of all devices along a logical axis, one after the other, on each of them. dim: that of the rows."""
        return jax.lax.all_gather(x, TABLE[axis][1], axis=dim, tiled=True) if self.parts(axis) > 1 else x

    def exchange(self, x: jax.Array, axis: str) -> jax.Array:
        """Of the rows of all devices along a logical axis, one after the other, this device's part of the columns."""
        if self.parts(axis) == 1:
            return x
        return jax.lax.all_to_all(x, TABLE[axis][1], split_axis=1, concat_axis=0, tiled=True)

    def scatter_sum(self, x: jax.Array, axis: str) -> jax.Array:
        """Of the sum over the devices along a logical axis, this device's part of the rows: undoes `gather`."""
        if self.parts(axis) == 1:
            return x
        return jax.lax.psum_scatter(x, TABLE[axis][1], scatter_dimension=0, tiled=True)

    def ring(self, meet: Callable[..., Any], stay: Any, travel: Any) -> tuple[Any, Any]:
        """Calls `stay, travel = meet(stay, travel)` once for each part of the batch; between the calls `travel` goes on
        to the next device, and in the end it is where it began. So memory does not grow with the devices.
        """
        parts = self.parts('batch')
        if parts == 1:
            return meet(stay, travel)
        axes, onward = TABLE['batch'][1], [(i, (i + 1) % parts) for i in range(parts)]

        def step(carry: Any, _: None) -> tuple[Any, None]:
            stay, travel = meet(*carry)
            return (stay, jax.tree.map(lambda x: jax.lax.ppermute(x, axes, onward), travel)), None

        return jax.lax.scan(step, (stay, travel), length=parts)[0]


def here() -> Place:
    """Of the mesh of `jax.set_mesh`."""
    return Place(current_mesh())


def shard_mapped(local: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> Callable[..., Any]:
    """`local(place, *arrays) -> arrays`, on each device with its part of every array.

    inputs, outputs: the logical axes of each array (or a tree of them), as of activations: `('batch',)` is cut along
    its first dimension, `()` every device has whole. An output that is not cut along an axis must come out the same on
    all devices along it.
    """
    mesh = current_mesh()
    program = functools.partial(local, Place(mesh))
    if mesh.empty or mesh.size == 1:
        return program

    def specs(axes: list[Any]) -> tuple[Any, ...]:
        return tuple(
            jax.tree.map(lambda x: partition_spec(x, parameter=False), axes, is_leaf=lambda x: isinstance(x, tuple))
        )

    return jax.shard_map(
        program,
        in_specs=specs(inputs),
        out_specs=specs(outputs),
        check_vma=False,  # the axes that are not named do the same work on the same rows
    )
