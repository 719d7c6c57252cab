import math

import pytest

from mmjax.errors import UserError
from mmjax.plan.topologies import GENERATIONS, parse_topology

# Slices as Google Cloud's pages list them, and the wrap that GKE's device plugin gives a pod on them.
PUBLISHED = {
    'v5e:1x1': (1, (False, False, False)),
    'v5e:4x8': (32, (False, False, False)),
    'v5e:8x8': (64, (False, False, False)),
    'v6e:8x16': (128, (False, True, False)),
    'v5e:16x16': (256, (True, True, False)),
    'v4:2x2x4': (16, (False, False, False)),
    'v5p:2x4x4': (32, (False, False, False)),
    'v5p:4x4x4': (64, (True, True, True)),
    'v4:8x8x12': (768, (True, True, True)),
    'v5p:16x16x24': (6144, (True, True, True)),
    'v5p:16x20x28': (8960, (True, True, True)),
    'tpu7x:16x16x36': (9216, (True, True, True)),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_slices_exist(name):
    topology = parse_topology(name)
    assert (topology.chips, topology.wrap) == PUBLISHED[name]
    assert topology.name == name


def test_devices_of_chips_and_slices():
    assert parse_topology('tpu7x:4x4x4', slices=3).devices == 3 * 64 * 2
    assert parse_topology('v5p:8x8x8', slices=4).devices == 2048
    assert parse_topology('h100:8x8').devices == 64


@pytest.mark.parametrize('name', GENERATIONS)
def test_shapes_are_ordered_and_within_the_pod(name):
    generation = GENERATIONS[name]
    shapes = generation.shapes()
    assert len(set(shapes)) == len(shapes)
    assert max(math.prod(shape) for shape in shapes) <= generation.pod
    assert all(len(shape) == generation.dimensions for shape in shapes)


def test_figures_agree_with_one_another():
    """A chip's FLOPs a byte of memory lie between those of its neighbours in time; figures off by a unit would not."""
    for generation in GENERATIONS.values():
        assert 150 < generation.flops / (generation.hbm_gbps * 1e9) < 600
        assert generation.link_gbps < generation.hbm_gbps


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'such as v5p:4x4x4'),
        ('v5x:4x4x4', "did you mean 'v5"),
        ('V6E:2x2', "did you mean 'v6e'"),
        ('b200:8x8', 'there are v4'),
        ('v5e:64x64', 'v5e:16x16'),  # libtpu accepts these four
        ('v5e:32x32', 'v5e:16x16'),
        ('v6e:16x32', 'v6e:16x16'),
        ('v5p:4x4', 'v5p:2x2x4'),
        ('v5p:8x4x4', 'v5p:4x4x8'),
        ('v5e:0x4', 'v5e:1x1'),
        ('h100:3x4', 'h100:'),
        ('v5p-128', 'v5p:4x4x4, which has 64 chips'),
        ('v4-16', 'v4:2x2x2'),
        ('v5litepod-16', 'v5e:4x4'),
        ('tpu7x-128', 'tpu7x:4x4x4'),
        ('v5p', 'is no NAME:AxB[xC]'),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(text, said):
    with pytest.raises(UserError) as error:
        parse_topology(text)
    assert said in str(error.value) and '\n' not in str(error.value)


def test_slices():
    with pytest.raises(UserError, match='below 1'):
        parse_topology('v5e:2x2', slices=0)
    with pytest.raises(UserError, match='leave --slices out'):
        parse_topology('h100:8x8', slices=2)


def test_a_pod_that_cannot_be_rented_whole_says_so():
    assert '6,144' in parse_topology('v5p:16x20x28').remarks[0]
    assert not parse_topology('v5p:16x16x24').remarks
