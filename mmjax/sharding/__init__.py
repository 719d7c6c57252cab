"""Where arrays live: the mesh, ONE table from logical axes to mesh axes, and placement of parameters and batches.

Modules name logical axes only: a parameter by `nn.with_logical_partitioning`, an activation by `constrain`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.core import meta
from jax.experimental import mesh_utils
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.errors import UserError, nearest
from mmjax.sharding.order import in_order

# From the slowest links to the fastest: the last one's neighbours are nearest.
MESH_AXES = ('slices', 'data', 'fsdp', 'expert', 'sequence', 'tensor')
BETWEEN_SLICES = 'slices'  # the one whose links are the data centre's network

AnyMesh = jax.sharding.Mesh | jax.sharding.AbstractMesh  # of devices, or of so many that are not here

# logical axis: (mesh axes of a parameter, mesh axes of an activation)
TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'batch': ((), ('slices', 'data', 'fsdp', 'expert')),
    'length': ((), ('sequence',)),  # of tokens that do the work: a query's
    'keys': ((), ()),  # of tokens that are read: every device has all of its examples'
    'embed': (('fsdp', 'expert', 'sequence'), ()),
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
    'expert': (('expert',), ('expert',)),  # of a mixture
    'expert_embed': (('fsdp', 'sequence'), ()),  # the width of tokens in weights that are cut by expert already
    'rank': ((), ()),  # of a factorised product
    'project': ((), ()),  # the width of tokens, in a map from tokens of another width
}


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices each mesh axis has; one axis may be -1: what the others leave.

    data: replicas of the parameters, each with its part of the batch. fsdp: parts of the batch and of the parameters.
    tensor: parts of heads, of the MLP and of the vocabulary. sequence: parts of the length of every sequence, and of
    the parameters; a device reads the keys and values of the whole length. expert: parts of the experts of a mixture,
    of the batch, and of all other parameters. slices: like data, but over the network between slices of a pod (or
    between nodes), which is slower than the links within one.

    `mesh=fsdp_tp` takes one of the usual shapes of `presets.py`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    sequence: int = dataclasses.field(default=1, metadata={'old': 1})
    expert: int = dataclasses.field(default=1, metadata={'old': 1})
    slices: int = dataclasses.field(default=1, metadata={'old': 1})

    def build(
        self,
        devices: Sequence[Any] | None = None,
        *,
        parameters: Callable[[], Any] | None = None,
        device_bytes: int | None = None,
    ) -> jax.sharding.Mesh:
        """Returns the mesh of the given devices (default: all), neighbours on the links where it can be.

        parameters: gives the abstract parameters with their logical axes, for a shape that depends on them (`Auto`).
        device_bytes: the memory of a device, for the same, where the devices cannot tell.

        Raises:
            UserError: where the axes do not multiply to the number of devices, or `slices` is not how many there are.
        """
        devices = jax.devices() if devices is None else devices
        sizes = self.sizes(len(devices))
        there = count_slices(devices)
        if there > 1:
            if sizes[0] != there:
                raise UserError(f'mesh.slices: {sizes[0]}, but the devices lie in {there} slices; use that number')
            within, between = (1, *sizes[1:]), (sizes[0], *(1,) * (len(sizes) - 1))
            arranged = mesh_utils.create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=True)
            return jax.sharding.Mesh(arranged, MESH_AXES)
        if devices[0].platform == 'gpu':  # nodes one after the other: inner axes stay within one, outer ones span them
            arranged = np.empty(sizes, object)
            arranged.flat = sorted(devices, key=lambda device: (_slice_of(device), device.id))
            return jax.sharding.Mesh(arranged, MESH_AXES)
        # Axes that are no sides of a slice, such as 4 of 8x8x8, take a part of one.
        arranged = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        return jax.sharding.Mesh(in_order(arranged), MESH_AXES)

    def sizes(self, devices: int) -> tuple[int, ...]:
        """The sizes of `MESH_AXES` on so many devices; raises UserError where they do not fit."""
        sizes = [getattr(self, axis) for axis in MESH_AXES]
        if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
            raise UserError(f'mesh: {self} has more than one -1 or a size below 1; give every axis but one its size')
        known = math.prod(size for size in sizes if size != -1)
        if devices % known or (-1 not in sizes and known != devices):
            asked = {axis: size for axis, size in zip(MESH_AXES, sizes, strict=True) if size != 1}
            raise UserError(
                f'mesh: the axes {asked} need {known} devices (or a multiple of it where one is -1), but there are '
                f'{devices}'
            )
        return tuple(devices // known if size == -1 else size for size in sizes)


def count_slices(devices: Sequence[Any]) -> int:
    """In how many slices of TPUs the devices lie; one where they do not say.

    Of GPUs XLA calls each node a slice; but their network joins nodes as well as slices, so any mesh can span it.
    """
    return len({_slice_of(device) for device in devices}) if devices[0].platform == 'tpu' else 1


def _slice_of(device: Any) -> int:
    return getattr(device, 'slice_index', None) or 0


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


def current_mesh() -> jax.sharding.AbstractMesh:
    """The mesh of `jax.set_mesh`; an empty one without it, and within `shard_mapped`: there a device is by itself."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.sharding.AbstractMesh((), ()) if mesh.manual_axes else mesh


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Says how an activation is sharded. The mesh is the one of `jax.set_mesh`; without one this does nothing."""
    if len(axes) != x.ndim:
        raise ValueError(f'constrain got {len(axes)} axes {axes} for an array of shape {x.shape}')
    # One token alone, such as what sums up an image, is on every device.
    spec = partition_spec(
        [None if a == 'length' and n == 1 else a for a, n in zip(axes, x.shape, strict=True)], parameter=False
    )
    mesh = current_mesh()
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


def keep(tree: Any, shardings: Any) -> Any:
    """Holds arrays of a traced program where others live: the gradients where their parameters do."""
    return jax.lax.with_sharding_constraint(tree, shardings)


def platform() -> str:
    """What the program that is being traced is for: that of the mesh, which need not be here; else of this process."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return jax.default_backend() if device is None else device.platform


def replicated(mesh: AnyMesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_parts(mesh: Any) -> int:
    """Into how many parts the mesh cuts a batch."""
    return math.prod(mesh.shape[axis] for axis in TABLE['batch'][1])


def check_batch(batch_size: int, mesh: AnyMesh, *, accumulate: int = 1) -> None:
    """Raises UserError where a batch cannot be cut into equal parts for the mesh and the accumulation steps."""
    parts = batch_parts(mesh) * accumulate
    if batch_size % parts:
        cut = ' x '.join(f'{axis} {mesh.shape[axis]}' for axis in TABLE['batch'][1] if mesh.shape[axis] > 1) or 'one'
        raise UserError(
            f'batch_size: {batch_size} does not divide by {parts} ({cut} devices x {accumulate} accumulation steps); '
            f'use a multiple of {parts}'
        )


def rows_here(batch_size: int, mesh: jax.sharding.Mesh) -> list[int]:
    """The rows of a global batch that devices of this process hold, in order: what it has to load.

    Where the mesh cuts a batch into fewer parts than there are processes, several hold the same ones.
    """
    sharding = NamedSharding(mesh, partition_spec(['batch'], parameter=False))
    held = sharding.addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for index in held if index for row in range(batch_size)[index[0]]})


def placed_batch(batch: Mapping[str, Any], mesh: AnyMesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Abstract arrays as `place_batch` would place them, for devices that need not be here."""
    sharding = NamedSharding(mesh, partition_spec(['batch'], parameter=False))
    return {key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for key, x in batch.items()}


def place_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh, *, leading: int = 0) -> dict[str, jax.Array]:
    """Puts a process's rows of a batch (`rows_here`) onto its devices, as one global array a key, sharded over `batch`.

    leading: how many axes stand before `batch`, as of many batches in one array.
    """
    sharding = NamedSharding(mesh, partition_spec([*(None,) * leading, 'batch'], parameter=False))
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}
