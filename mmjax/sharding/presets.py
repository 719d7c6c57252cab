"""Meshes by the names that users know: `mesh=fsdp`, `mesh=fsdp_tp --mesh.tensor 8`."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mmjax.errors import UserError
from mmjax.sharding import MESH_AXES, MeshShape, count_slices, parameter_shardings

UNKNOWN = 16 * 2**30  # bytes of a device that does not tell


@dataclasses.dataclass(frozen=True)
class Dp(MeshShape):
    """Data parallel: every device has all parameters and its part of the batch."""


@dataclasses.dataclass(frozen=True)
class Fsdp(MeshShape):
    """Fully sharded data parallel: parameters and optimiser too are cut over all devices (Rajbhandari et al. 2020,
    ZeRO stage 3).
    """

    data: int = 1
    fsdp: int = -1


@dataclasses.dataclass(frozen=True)
class FsdpTp(Fsdp):
    """And each layer is cut by heads and hidden width over `tensor` neighbours (Shoeybi et al. 2019)."""

    tensor: int = 4


@dataclasses.dataclass(frozen=True)
class LongContext(Fsdp):
    """And each sequence is cut over `sequence` devices, for lengths whose activations do not fit on one."""

    sequence: int = dataclasses.field(default=4, metadata={'old': 4})


@dataclasses.dataclass(frozen=True)
class Moe(Fsdp):
    """And the experts of a mixture over `expert` devices (Lepikhin et al. 2021)."""

    expert: int = dataclasses.field(default=4, metadata={'old': 4})


@dataclasses.dataclass(frozen=True)
class Multislice(Fsdp):
    """Fully sharded within each of `slices` slices, data parallel between them, over the data centre's network."""

    slices: int = dataclasses.field(default=2, metadata={'old': 2})


@dataclasses.dataclass(frozen=True)
class Auto(MeshShape):
    """Data parallel between slices; within one, parameters cut over as few devices as hold the state.

    state_share: of a device's memory that parameters, gradients and two moments in float32 may take; the rest is for
    activations. device_gib: its memory; 0: what the device says, or the caller of `build`, and 16 where none does.
    """

    state_share: float = 0.4
    device_gib: float = 0.0

    def build(
        self,
        devices: Sequence[Any] | None = None,
        *,
        parameters: Callable[[], Any] | None = None,
        device_bytes: int | None = None,
    ) -> jax.sharding.Mesh:
        devices = jax.devices() if devices is None else devices
        slices = count_slices(devices)
        within = len(devices) // slices
        tree = parameters() if parameters else {}
        fitting = [n for n in range(1, within + 1) if within % n == 0 and _divides(tree, n)]
        need = 16 * sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
        room = self.state_share * (self.device_gib * 2**30 or device_bytes or memory(devices) or UNKNOWN)
        fsdp = next((n for n in fitting if need <= n * room), fitting[-1])
        return MeshShape(data=-1, fsdp=fsdp, slices=slices).build(devices)


def _divides(tree: Any, parts: int) -> bool:
    """Whether every parameter can be cut over so many devices."""
    mesh = jax.sharding.AbstractMesh(MeshShape(data=1, fsdp=parts).sizes(parts), MESH_AXES)
    try:
        parameter_shardings(tree, mesh)
    except UserError:
        return False
    return True


def memory(devices: Sequence[Any]) -> int | None:
    """Bytes that a program may use of the device with the least, of those that this process has; None: it is not told.

    Other processes' devices tell this one nothing: who builds a mesh of theirs has to agree with them before.
    """
    told = []
    for device in devices:
        with contextlib.suppress(AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):  # not here, or dumb
            told.append((device.memory_stats() or {}).get('bytes_limit'))
    return min((limit for limit in told if limit), default=None)
