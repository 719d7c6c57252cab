"""Where the devices of a mesh lie on the links between chips."""

from typing import Any

import jax
import numpy as np

from mmjax.plan.links import Links
from mmjax.plan.topologies import Topology


def links_of(topology: Topology, mesh: jax.sharding.Mesh) -> Links:
    """The links that the devices of a mesh have, by their coordinates (of TPU alone).

    Slices are alike: the places are those of the first. Devices that differ by nothing but the core lie on one chip, in
    one place, and share its links as groups in one place do. What goes between them is given its part of all links of a
    chip, as no figure of it is published.
    """
    generation = topology.generation
    first = mesh.devices.flat[0]
    within = [device for device in mesh.devices.flat if _slice_of(device) == _slice_of(first)]
    places = np.array([device.coords for device in within])
    link = generation.link_gbps * 1e9
    return Links(
        link=link,
        chip=link * generation.links / generation.devices_per_chip,
        network=generation.dcn_gbps * 1e9 / generation.devices_per_chip,
        sides=(*topology.shape, 1)[: places.shape[1]],
        wrap=topology.wrap[: places.shape[1]],
        mesh=_within(mesh),
        places=places,
    )


def _within(mesh: jax.sharding.Mesh) -> dict[str, int]:
    """The sizes of its axes in one slice."""
    sizes = {}
    for i, (axis, size) in enumerate(mesh.shape.items()):
        line = np.moveaxis(mesh.devices, i, 0)[(slice(None), *(0,) * (mesh.devices.ndim - 1))]
        sizes[axis] = size // len({_slice_of(device) for device in line})
    return sizes


def _slice_of(device: Any) -> int:
    return getattr(device, 'slice_index', None) or 0
