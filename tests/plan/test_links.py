"""What a group can use of the links, against rings and messages that are laid on a torus hop by hop."""

import collections
import itertools
import math

import numpy as np
import pytest
from jax.sharding import Mesh
from scipy.optimize import linprog

from mmjax.plan.analysis import analyse
from mmjax.plan.attended import every_pair
from mmjax.plan.collectives import Collective
from mmjax.plan.links import seconds
from mmjax.plan.placement import links_of
from mmjax.plan.topologies import parse_topology
from mmjax.sharding import MESH_AXES, MeshShape
from tests.plan import texts

KINDS = {'v4': 'TPU v4', 'v5e': 'TPU v5 lite', 'v5p': 'TPU v5', 'tpu7x': 'TPU7x'}


class Device:
    """As JAX shows one that is not here."""

    platform, slice_index = 'tpu', 0

    def __init__(self, number, coords, core, kind):
        self.id, self.coords, self.core_on_chip, self.device_kind = number, coords, core, kind
        self.process_index = number // 4


def devices_on(name):
    topology = parse_topology(name)
    sides = [range(side) for side in reversed((*topology.shape, 1)[:3])]
    cores = range(topology.generation.devices_per_chip)
    every = itertools.product(*sides, cores)
    kind = KINDS[topology.generation.name]
    return topology, [Device(i, (x, y, z), core, kind) for i, (z, y, x, core) in enumerate(every)]


def built(name, shape):
    topology, devices = devices_on(name)
    mesh = shape.build(devices)
    return topology, mesh, links_of(topology, mesh)


def ids_of(mesh, axes):
    """Groups of places in the mesh: devices with the same index on all other axes."""
    found = collections.defaultdict(list)
    for number, index in enumerate(np.ndindex(mesh.devices.shape)):
        found[tuple(i for i, axis in zip(index, MESH_AXES, strict=True) if axis not in axes)].append(number)
    return np.array(list(found.values()))


def taken(links, kind, groups, wire):
    """Seconds, in bytes over one link."""
    return seconds([Collective(kind, (), groups.shape[1], 1, 0, wire, groups=groups)], links).total * links.link


def walk(load, at, to, d, amount, topology, prefer=None):
    """Lays a message along one dimension; where both ways are as long, the preferred one or half each way."""
    side, wrap = (*topology.shape, 1)[d], topology.wrap[d]
    up = (to - at[d]) % side if wrap else to - at[d]
    down = (at[d] - to) % side if wrap else at[d] - to
    ways = [(up, 1), (down, -1)]
    possible = [(hops, sign) for hops, sign in ways if hops >= 0]
    fewest = min(hops for hops, _ in possible)
    chosen = [sign for hops, sign in possible if hops == fewest]
    chosen = [prefer] if prefer in chosen else chosen
    for sign in chosen:
        here = list(at)
        for _ in range(fewest):
            load[tuple(here), d, sign] += amount / len(chosen)
            here[d] = (here[d] + sign) % side
    return (*at[:d], to, *at[d + 1 :])


def gather_by_rings(topology, groups):
    """Time of an all-gather of one byte from each device, over one link: the best mixture of rings.

    A ring goes along one dimension after another, each device handing on all that it has from the last; the bytes are
    cut over all orders of the dimensions and both directions as suits the busiest link best.
    """
    sides = [[sorted({at[d] for at in group}) for d in range(3)] for group in groups]
    spread = [d for d in range(3) if len(sides[0][d]) > 1]
    loads = []
    for order in itertools.permutations(spread):
        for sign in (1, -1):
            load, has = collections.Counter(), 1
            for d in order:
                n = len(sides[0][d])
                for group, along in zip(groups, sides, strict=True):
                    for at in group:
                        to = along[d][(along[d].index(at[d]) + sign) % n]
                        walk(load, at, to, d, has * (n - 1), topology, prefer=sign)
                has *= n
            loads.append(load)
    hops = sorted(set().union(*loads))
    carried = np.unique(np.array([[load[hop] for load in loads] for hop in hops]), axis=0)
    # Least t with: what each link carries <= t, shares adding up to one.
    found = linprog(
        [0] * len(loads) + [1],
        A_ub=np.hstack([carried, -np.ones((len(carried), 1))]),
        b_ub=np.zeros(len(carried)),
        A_eq=[[1] * len(loads) + [0]],
        b_eq=[1],
    )
    return found.fun


LAID = [  # topology, mesh, axes of the collective, links that a device has
    ('v5p:8x8x8', MeshShape(data=1, fsdp=512), ['fsdp'], 6),
    ('v5p:8x8x8', MeshShape(data=16, fsdp=32), ['fsdp'], 3),  # a closed side, and half of one
    ('v5p:8x8x8', MeshShape(data=16, fsdp=32), ['data'], 2.5),  # a closed side, and two places of one, 4 hops apart
    ('v5p:8x8x8', MeshShape(data=16, fsdp=32), ['data', 'fsdp'], 6),
    ('v5p:8x8x8', MeshShape(data=8, fsdp=64), ['fsdp'], 4),
    ('v5p:8x8x8', MeshShape(data=8, fsdp=64), ['data'], 2),
    ('v5p:8x8x8', MeshShape(data=1, fsdp=32, sequence=16), ['fsdp'], 3),  # every second place of a side, all round
    ('v5p:8x8x8', MeshShape(data=1, fsdp=32, sequence=16), ['sequence'], 3),
    ('v5p:8x8x8', MeshShape(data=1, fsdp=32, sequence=16), ['fsdp', 'sequence'], 6),
    ('v5p:4x4x4', MeshShape(data=2, fsdp=32), ['fsdp'], 5),
    ('v5p:4x4x4', MeshShape(data=2, fsdp=32), ['data'], 1),
    ('v5e:16x16', MeshShape(data=4, fsdp=64), ['fsdp'], 3),
    ('v5e:16x16', MeshShape(data=4, fsdp=64), ['data'], 0.5),  # every fourth place of a side, all round
    ('v5e:16x16', MeshShape(data=1, fsdp=64, tensor=4), ['fsdp'], 2.5),
    ('v5e:16x16', MeshShape(data=1, fsdp=64, tensor=4), ['tensor'], 1),
    ('v5e:8x8', MeshShape(data=1, fsdp=64), ['fsdp'], 2),  # nothing is closed
    ('v5e:8x8', MeshShape(data=2, fsdp=32), ['data'], 0.25),  # 4 lines within one another, and no way round
    ('v5p:2x2x4', MeshShape(data=4, fsdp=4), ['fsdp'], 2),
]


def parts(case):
    return math.prod(getattr(case[1], axis) for axis in case[2])


@pytest.mark.parametrize(('name', 'shape', 'axes', 'expected'), LAID)
def test_a_group_has_the_links_that_rings_laid_on_the_torus_find(name, shape, axes, expected):
    """Within 5 %: a dimension with few places cannot take as many bytes as its links would carry, which the model
    leaves out.
    """
    topology, mesh, links = built(name, shape)
    groups, n = ids_of(mesh, axes), len(ids_of(mesh, axes)[0])
    laid = gather_by_rings(topology, [[mesh.devices.flat[i].coords for i in group] for group in groups])
    assert taken(links, 'all-gather', groups, n - 1) == pytest.approx((n - 1) / expected)
    assert taken(links, 'all-gather', groups, n - 1) == pytest.approx(laid, rel=0.05)
    assert links.bandwidth(links.groups(axes)) / links.link == pytest.approx(expected)


@pytest.mark.parametrize(('name', 'shape', 'axes', 'expected'), [case for case in LAID if parts(case) <= 32])
def test_an_exchange_takes_what_its_busiest_link_carries(name, shape, axes, expected):
    topology, mesh, links = built(name, shape)
    groups = ids_of(mesh, axes)
    n, load = groups.shape[1], collections.Counter()
    for group in groups:
        for one, other in itertools.permutations(group, 2):
            at, to = mesh.devices.flat[one].coords, mesh.devices.flat[other].coords
            for d in range(3):
                at = walk(load, at, to[d], d, 1, topology)
    assert taken(links, 'all-to-all', groups, n - 1) == pytest.approx(max(load.values()))


@pytest.mark.parametrize(
    ('name', 'shape', 'axis', 'by', 'expected'),
    [
        ('v5p:8x8x8', MeshShape(data=8, fsdp=64), 'data', 1, 1),  # to a neighbour: one link
        ('v5p:8x8x8', MeshShape(data=8, fsdp=64), 'data', 3, 3),  # each link carries what three send
        ('v5p:8x8x8', MeshShape(data=8, fsdp=64), 'data', 4, 2),  # half of it either way round
        ('v5e:16x16', MeshShape(data=4, fsdp=64), 'data', 1, 4),  # every fourth place
        ('v5e:16x16', MeshShape(data=1, fsdp=64, tensor=4), 'tensor', 1, 1),  # the last one sends back to the first
        ('v5e:16x16', MeshShape(data=1, fsdp=64, tensor=4), 'tensor', 2, 2),
    ],
)
def test_a_shift_uses_one_link(name, shape, axis, by, expected):
    topology, mesh, links = built(name, shape)
    pairs = np.array([(one, row[(i + by) % len(row)]) for row in ids_of(mesh, [axis]) for i, one in enumerate(row)])
    load = collections.Counter()
    for one, other in pairs:
        at, to = mesh.devices.flat[one].coords, mesh.devices.flat[other].coords
        for d in range(3):
            at = walk(load, at, to[d], d, 1, topology)
    assert taken(links, 'collective-permute', pairs, 1) == pytest.approx(max(load.values())) == pytest.approx(expected)


def test_places_count_and_not_their_names_nor_their_order():
    """The same places in any order have the same links; scattered over the torus they have fewer."""
    topology, devices = devices_on('v5p:4x4x4')
    links = links_of(topology, Mesh(np.array(devices).reshape(4, 16), ('a', 'b')))
    turned = links_of(topology, Mesh(np.array(devices)[::-1].reshape(4, 16), ('b', 'a')))
    assert links.bandwidth(links.groups(['b'])) == turned.bandwidth(turned.groups(['a'])) == 4 * links.link
    scattered = np.random.default_rng(0).permutation(64).reshape(4, 16)
    assert links.bandwidth(scattered) < 2 * links.link  # of its 6


def test_two_devices_of_one_chip_share_its_links():
    _, mesh, links = built('tpu7x:4x4x4', MeshShape(data=1, fsdp=64, tensor=2))
    assert {device.coords for device in mesh.devices.flat[:2]} == {(0, 0, 0)}
    assert links.bandwidth(links.groups(['tensor'])) == 6 * 100e9 / 2
    for kind in ('all-to-all', 'collective-permute'):
        assert taken(links, kind, ids_of(mesh, ['tensor']), 3) == pytest.approx(1)
    assert links.bandwidth(links.groups(['fsdp'])) == 6 * 100e9 / 2  # two groups lie on each line
    assert links.bandwidth(links.groups(['fsdp', 'tensor'])) == 6 * 100e9  # a ring comes by each chip once


def test_an_exchange_of_two_devices_in_each_place():
    topology, mesh, links = built('tpu7x:2x2x2', MeshShape(data=1, fsdp=16))
    load = collections.Counter()
    for one, other in itertools.permutations(mesh.devices.flat, 2):
        at = one.coords
        for d in range(3):
            at = walk(load, at, other.coords[d], d, 1, topology)
    assert taken(links, 'all-to-all', ids_of(mesh, ['fsdp']), 15) == pytest.approx(max(load.values()))


def test_between_slices_is_the_network():
    _, devices = devices_on('v5e:4x4')
    _, others = devices_on('v5e:4x4')
    for device in others:
        device.id, device.process_index, device.slice_index = device.id + 16, device.process_index + 4, 1
    mesh = MeshShape(data=1, fsdp=16, slices=2).build([*devices, *others])
    links = links_of(parse_topology('v5e:4x4', slices=2), mesh)
    assert dict(links.mesh) == {axis: {'fsdp': 16}.get(axis, 1) for axis in MESH_AXES}
    assert links.bandwidth(links.groups(['fsdp'])) == 2 * 50e9
    over = Collective('all-reduce', ('slices',), 2, 1, 0, 1000, True)
    assert seconds([over], links).seconds == {('all-reduce', ('slices', 'network')): 1000 / 3.125e9}


def test_a_plan_tells_seconds_by_kind_and_axes_and_what_they_assume():
    topology, devices = devices_on('v5e:2x4')
    mesh = Mesh(np.array(devices).reshape(tuple(texts.STEP_MESH.values())), tuple(texts.STEP_MESH))
    told = analyse(texts.read('step_v5e'), topology, mesh, share=every_pair)
    by_kind = {name: value for name, value in told.items() if name.startswith('collectives/')}
    times = {name: value for name, value in by_kind.items() if name.endswith('/seconds')}
    assert set(times) == {name.replace('/wire_gb', '/seconds') for name in by_kind if name.endswith('/wire_gb')}
    assert sum(times.values()) == pytest.approx(told['seconds/links'])
    # Pairs of neighbours, each with a link for itself; 92,291,072 bytes: see test_collectives.
    assert times['collectives/all-reduce/tensor/seconds'] == pytest.approx(92_291_072 / 50e9)
    assert 'what hides behind computation is not taken off' in told['links/model']
