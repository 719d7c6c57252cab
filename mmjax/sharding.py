"""Where arrays live: the mesh, ONE table from logical axes to mesh axes, and placement of parameters and batches.

Modules name logical axes only: a parameter by `nn.with_logical_partitioning`, an activation by `constrain`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.core import meta
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmjax.errors import UserError, nearest

MESH_AXES = ('data', 'fsdp', 'tensor')

AnyMesh = jax.sharding.Mesh | jax.sharding.AbstractMesh  # of devices, or of so many that are not here

# logical axis: (mesh axes of a parameter, mesh axes of an activation)
TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'batch': ((), ('data', 'fsdp')),
    'length': ((), ()),
    'embed': (('fsdp',), ()),
    'heads': (('tensor',), ('tensor',)),
    'head_dim': ((), ()),
    'mlp': (('tensor',), ('tensor',)),
    'vocab': (('tensor',), ('tensor',)),
    'classes': ((), ()),
    'layers': ((), ()),
    'patch': ((), ()),  # the pixels of one patch, flattened
    'positions': ((), ()),
    'kernel': ((), ()),  # the window of a convolution
    'channels': ((), ()),
    'modalities': ((), ()),
    'expert': ((), ()),  # of a mixture; cut by the other axes of its weights
    'rank': ((), ()),  # of a factorised product
}


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices each mesh axis has; one axis may be -1: what the others leave.

    data: replicas of the parameters, each with its part of the batch. fsdp: parts of the batch and of the parameters.
    tensor: parts of heads and of the MLP.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """Returns the mesh of the given devices (default: all).

        Raises:
            UserError: where the axes do not multiply to the number of devices.
        """
        devices = jax.devices() if devices is None else devices
        sizes = [getattr(self, axis) for axis in MESH_AXES]
        if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
            raise UserError(f'mesh: {self} has more than one -1 or a size below 1; give every axis but one its size')
        known = math.prod(size for size in sizes if size != -1)
        if len(devices) % known or (-1 not in sizes and known != len(devices)):
            raise UserError(
                f'mesh: the axes {dict(zip(MESH_AXES, sizes, strict=True))} need {known} devices (or a multiple '
                f'of it where one is -1), but there are {len(devices)}'
            )
        sizes = [len(devices) // known if size == -1 else size for size in sizes]
        return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices)


def partition_spec(axes: Sequence[str | None], *, parameter: bool) -> PartitionSpec:
    """Logical axes to mesh axes by the table.

    Raises:
        ValueError: on an axis that the table does not have, or two axes of one array on the same mesh axis.
    """
    spec, taken = [], {}
    for axis in axes:
        if axis is not None and axis not in TABLE:
            raise ValueError(
                f"unknown logical axis '{axis}'{nearest(axis, TABLE)} (sharding.TABLE has {sorted(TABLE)})"
            )
        mesh_axes = () if axis is None else TABLE[axis][0 if parameter else 1]
        for mesh_axis in mesh_axes:
            if mesh_axis in taken:
                raise ValueError(
                    f"logical axes '{taken[mesh_axis]}' and '{axis}' of one array are both on '{mesh_axis}'"
                )
            taken[mesh_axis] = axis
        spec.append(mesh_axes or None)
    return PartitionSpec(*spec)


def _check_divides(shape: Sequence[int], axes: Sequence[str | None], spec: PartitionSpec, mesh: Any, what: str) -> None:
    for size, axis, mesh_axes in zip(shape, axes, spec, strict=True):
        mesh_axes = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes or ()
        parts = math.prod(mesh.shape[mesh_axis] for mesh_axis in mesh_axes)
        if size % parts:
            raise UserError(
                f"{what}: logical axis '{axis}' has size {size}, which does not divide by the {parts} devices of "
                f'mesh axes {mesh_axes}'
            )


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Says how an activation is sharded. The mesh is the one of `jax.set_mesh`; without one this does nothing."""
    spec = partition_spec(axes, parameter=False)
    if len(axes) != x.ndim:
        raise ValueError(f'constrain got {len(axes)} axes {axes} for an array of shape {x.shape}')
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    _check_divides(x.shape, axes, spec, mesh, 'activation')
    return jax.lax.with_sharding_constraint(x, spec)


def parameter_shardings(boxed: Any, mesh: AnyMesh) -> Any:
    """Shardings of a tree of abstract parameters that still carry their logical axes (`jax.eval_shape` of `init`)."""

    def one(path: Any, leaf: Any) -> NamedSharding:
        if not isinstance(leaf, meta.AxisMetadata):
            return NamedSharding(mesh, PartitionSpec())
        axes, shape = leaf.names, leaf.unbox().shape
        spec = partition_spec(axes, parameter=True)
        _check_divides(shape, axes, spec, mesh, f'parameter {jax.tree_util.keystr(path, simple=True, separator="/")}')
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, boxed, is_leaf=lambda leaf: isinstance(leaf, meta.AxisMetadata))


def replicated(mesh: AnyMesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_parts(mesh: Any) -> int:
    """Into how many parts the mesh cuts a batch."""
    return math.prod(mesh.shape[axis] for axis in TABLE['batch'][1])


def check_batch(batch_size: int, mesh: jax.sharding.Mesh, *, accumulate: int = 1) -> None:
    """Raises UserError where a batch cannot be cut into equal parts for the mesh and the accumulation steps."""
    parts = batch_parts(mesh) * accumulate
    if batch_size % parts:
        raise UserError(
            f'batch_size: {batch_size} does not divide by {parts} (data {mesh.shape["data"]} x fsdp '
            f'{mesh.shape["fsdp"]} devices x {accumulate} accumulation steps); use a multiple of {parts}'
        )


def place_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh, *, leading: int = 0) -> dict[str, jax.Array]:
    """Puts each process's rows of a batch onto its devices, as one global array a key, sharded over `batch`.

    leading: how many axes stand before `batch`, as of many batches in one array.
    """
    sharding = NamedSharding(mesh, partition_spec([*(None,) * leading, 'batch'], parameter=False))
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}


def shard_mapped(local: Callable[..., Any], inputs: str, outputs: str) -> Callable[..., Any]:
    """`local(ring, *arrays)` on each device's rows of a batch. Without a mesh there is one part, the whole.

    inputs, outputs: a letter an array, 'b' for one that is cut along its first axis as the batch is, '.' for one that
    every device has whole. `ring(meet, stay, travel)` calls `stay, travel = meet(stay, travel)` once for each part of
    the batch; between the calls `travel` goes on to the next device, and in the end it is where it began.
    """
    axes, mesh = TABLE['batch'][1], jax.sharding.get_abstract_mesh()
    parts = 1 if mesh.empty else batch_parts(mesh)

    def ring(meet: Callable[..., Any], stay: Any, travel: Any) -> tuple[Any, Any]:
        if parts == 1:
            return meet(stay, travel)
        onward = [(i, (i + 1) % parts) for i in range(parts)]

        def step(carry: Any, _: None) -> tuple[Any, None]:
            stay, travel = meet(*carry)
            return (stay, jax.tree.map(lambda x: jax.lax.ppermute(x, axes, onward), travel)), None

        return jax.lax.scan(step, (stay, travel), length=parts)[0]

    program = functools.partial(local, ring)
    if parts == 1:
        return program
    spec = {'b': PartitionSpec(axes), '.': PartitionSpec()}
    return jax.shard_map(
        program,
        in_specs=tuple(spec[letter] for letter in inputs),
        out_specs=tuple(spec[letter] for letter in outputs),
        check_vma=False,  # the axes that are not named, such as `tensor`, do the same work on the same rows
    )
