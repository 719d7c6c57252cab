"""Where the axes of a mesh lie on the links between chips."""

import jax
import numpy as np

from mmjax.plan.links import Links
from mmjax.plan.topologies import Topology


def links_of(topology: Topology, mesh: jax.sharding.Mesh) -> Links:
    """What a device can send along each axis of the mesh, by the coordinates of its devices (of TPU alone).

    An axis has a link for each dimension of the torus that its devices are spread over; it is a ring where it goes all
    along dimensions that close. The links of a chip are shared by its devices. Devices that differ by nothing but the
    core lie on one chip: what goes between them is given all links of a chip, as no figure of it is published.
    """
    generation = topology.generation
    per_axis, wraps = {}, {}
    for i, axis in enumerate(mesh.axis_names):
        line = np.moveaxis(mesh.devices, i, 0)[(slice(None), *(0,) * (mesh.devices.ndim - 1))]
        if len({getattr(device, 'slice_index', None) for device in line}) > 1 or len(line) == 1:
            continue  # by the network, or not at all
        coordinates = list(zip(*(device.coords for device in line), strict=True))
        spread = [d for d, along in enumerate(coordinates) if len(set(along)) > 1]
        per_axis[axis] = len(spread) or generation.links
        sides = (*topology.shape, 1)
        wraps[axis] = bool(spread) and all(topology.wrap[d] and len(set(coordinates[d])) == sides[d] for d in spread)
    shared = generation.devices_per_chip
    return Links(
        link=generation.link_gbps * 1e9 / shared,
        per_axis=per_axis,
        wraps=wraps,
        network=generation.dcn_gbps * 1e9 / shared,
    )
