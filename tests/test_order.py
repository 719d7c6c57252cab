"""The order of devices on a mesh: the same devices along each axis, in an order that counts up."""

import itertools

import numpy as np
import pytest
from jax.experimental import mesh_utils

from mmjax.sharding import MeshShape
from mmjax.sharding.order import in_order
from tests.plan.test_links import devices_on


def number(device, order, sides):
    """A place as one number: its coordinates the digits, in the order of the dimensions that is named."""
    return int(np.ravel_multi_index([device.coords[d] for d in order], [sides[d] for d in order]))


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('v5p:8x8x8', MeshShape(data=1, fsdp=32, sequence=16)),  # both take parts of one side
        ('v5p:8x8x8', MeshShape(data=16, fsdp=32)),
        ('v5p:8x8x8', MeshShape(data=1, fsdp=128, tensor=4)),
        ('v5e:16x16', MeshShape(data=4, fsdp=64)),
    ],
)
def test_coordinates_count_up_and_each_axis_keeps_its_devices(name, shape):
    topology, devices = devices_on(name)
    sizes, sides = shape.sizes(len(devices)), (*topology.shape, 1)[:3]
    theirs = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    mine = shape.build(devices).devices

    def counting(mesh):
        orders = itertools.permutations(range(3))
        return [order for order in orders if [number(d, order, sides) for d in mesh.flat] == list(range(mesh.size))]

    assert counting(mine) and not counting(theirs)
    for axis in range(mine.ndim):
        lines = [np.moveaxis(mesh, axis, -1).reshape(-1, mesh.shape[axis]) for mesh in (mine, theirs)]
        mine_along, theirs_along = ({frozenset(d.id for d in line) for line in some} for some in lines)
        assert mine_along == theirs_along


def test_devices_in_order_and_those_without_coordinates_stay():
    _, devices = devices_on('v5p:4x4x4')
    already = mesh_utils.create_device_mesh((4, 16), devices)
    assert (in_order(already) == already).all()
    nowhere = np.array([object() for _ in range(4)]).reshape(2, 2)
    assert in_order(nowhere) is nowhere


def test_where_no_order_counts_up_the_devices_stay():
    _, devices = devices_on('v5e:2x2')
    crossed = np.array([devices[i] for i in (0, 3, 1, 2)]).reshape(2, 2)  # along both axes, corners that are apart
    assert in_order(crossed) is crossed
