"""Meshes worth trying on so many devices, and what each leaves on a device and makes it send: no compiler, no devices.

Bytes of parameters follow from the table alone. The mesh axes that cut a logical axis in a parameter and not in an
activation ('embed') are gathered before each use; those that cut both ('heads', 'mlp', an expert) never are.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax.core import meta

from mmjax.errors import UserError
from mmjax.sharding import MESH_AXES, TABLE, AnyMesh, MeshShape, parameter_shardings

TENSOR = (1, 2, 4, 8)  # more than a few neighbours never pay: every layer waits for them
SEQUENCE = (2, 4, 8, 16)
EXPERT = (2, 4, 8)
GROWING = ('data', 'fsdp')  # with the devices, in weak scaling


def candidates(devices: int, *, slices: int = 1, sequence: bool = False, experts: bool = False) -> list[MeshShape]:
    """Shapes on so many devices, those with fewest cuts first.

    sequence, experts: whether lengths, experts of a mixture are to be cut too.
    """
    within = devices // slices
    found = []
    for tensor in TENSOR:
        for parts in (1, *SEQUENCE * sequence):
            for expert in (1, *EXPERT * experts):
                held = tensor * parts * expert
                if within % held:
                    continue
                rest = within // held
                found += [
                    MeshShape(
                        data=rest // n, fsdp=n, tensor=tensor, sequence=parts, expert=expert, slices=slices
                    )
                    for n in range(1, rest + 1)
                    if rest % n == 0 and (n & (n - 1) == 0 or n == rest)
                ]  # fmt: skip
    return found


def fixed_at(shape: MeshShape, devices: int) -> MeshShape:
    """The shape that it is on so many devices, where it is another axis than those that grow which takes what the
    others leave: that stays as it is there.
    """
    if -1 not in (getattr(shape, axis) for axis in MESH_AXES if axis not in GROWING):
        return shape
    return MeshShape(**sizes_of(shape, devices))


def grown(shape: MeshShape, boxed: Any, *, devices: int) -> MeshShape:
    """The shape on so many devices, for weak scaling: the same cuts of layers, lengths and experts; parameters cut over
    as many as it says (-1: all), or the most below that divide them and the devices; replicas take what is left.

    shape: its -1, if any, is of data or fsdp (`fixed_at` makes such a shape). boxed: abstract parameters with their
    logical axes.

    Raises:
        UserError: where its other axes do not fit the devices.
    """
    whole = dataclasses.replace(shape, data=1 if shape.fsdp == -1 else -1)
    fixed = math.prod(getattr(shape, axis) for axis in MESH_AXES if axis not in GROWING)
    if devices % fixed:
        whole.sizes(devices)  # says what does not fit
    rest = devices // fixed
    most = rest if shape.fsdp == -1 else min(shape.fsdp, rest)
    for n in range(most, 0, -1):
        if rest % n:
            continue
        sizes = {axis: getattr(shape, axis) for axis in MESH_AXES} | {'data': rest // n, 'fsdp': n}
        found = MeshShape(**sizes)
        try:
            parameter_shardings(boxed, abstract(found, devices))
        except UserError:
            if n > 1:
                continue
            raise
        return found
    raise AssertionError('1 divides')


def abstract(shape: MeshShape, devices: int) -> jax.sharding.AbstractMesh:
    return jax.sharding.AbstractMesh(shape.sizes(devices), MESH_AXES)


def sizes_of(shape: MeshShape, devices: int) -> dict[str, int]:
    """By mesh axis."""
    return dict(zip(MESH_AXES, shape.sizes(devices), strict=True))


def written(sizes: Mapping[str, int]) -> str:
    """'data 4 x fsdp 16', of the axes that have more than one device."""
    return ' x '.join(f'{axis} {size}' for axis, size in sizes.items() if size > 1) or 'one device'


@dataclasses.dataclass(frozen=True)
class Held:
    """What a mesh makes of the parameters, in elements, on one device.

    shard: that lie there. whole: that a device has in its hands when it has gathered all it computes with; `largest` of
    them in one array, of one layer where layers are stacked. gathered: that it sends (or receives) to gather all of
    them once, by a ring. reduced: that it sends to sum gradients over all that have the same shard.
    """

    shard: float
    whole: float
    largest: float
    gathered: float
    reduced: float


def held(boxed: Any, mesh: AnyMesh) -> Held:
    """Counts `Held` for abstract parameters with their logical axes.

    Raises:
        UserError: where a parameter does not divide.
    """
    shardings = parameter_shardings(boxed, mesh)
    shard = whole = largest = gathered = reduced = 0.0
    copies_of = math.prod(mesh.shape[axis] for axis in TABLE['batch'][1])  # devices that see other rows
    for leaf, sharding in zip(_leaves(boxed), jax.tree.leaves(shardings), strict=True):
        value, names = (leaf.unbox(), leaf.names) if isinstance(leaf, meta.AxisMetadata) else (leaf, ())
        own = math.prod(sharding.shard_shape(value.shape))
        n = math.prod(mesh.shape[axis] for name in names if name for axis in _gathered(name))
        layers = math.prod(size for size, name in zip(value.shape, names, strict=False) if name == 'layers')
        shard, whole, largest = shard + own, whole + own * n, max(largest, own * n / layers)
        gathered += own * (n - 1)
        rows = math.prod(mesh.shape[axis] for name in names if name for axis in _gathered(name) if axis in _BATCH)
        taken = math.prod(mesh.shape[axis] for name in names if name == 'expert' for axis in TABLE['expert'][0])
        replicas = copies_of // (rows * taken)
        reduced += 2 * own * (replicas - 1) / replicas
    return Held(shard, whole, largest, gathered, reduced)


_BATCH = TABLE['batch'][1]


def _gathered(name: str) -> Iterator[str]:
    parameter, activation = TABLE[name]
    yield from (axis for axis in parameter if axis not in activation)


def _leaves(boxed: Any) -> list[Any]:
    return jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, meta.AxisMetadata))


def has_axis(boxed: Any, name: str) -> bool:
    """Whether some parameter has this logical axis."""
    return any(isinstance(leaf, meta.AxisMetadata) and name in leaf.names for leaf in _leaves(boxed))


def depth(boxed: Any) -> int:
    """Layers of the deepest stack, at least 1."""
    found = [1]
    for leaf in _leaves(boxed):
        if isinstance(leaf, meta.AxisMetadata):
            found += [n for n, name in zip(leaf.unbox().shape, leaf.names, strict=True) if name == 'layers']
    return max(found)
