"""Every spelling of replica_groups, against the groups that it stands for."""

import numpy as np
import pytest

from mmjax.plan import hlo
from mmjax.plan.groups import axes_of, permuted_axes, replica_groups

MESH = {'x': 2, 'y': 4}
IDS = np.arange(8).reshape(2, 4)


def groups(spelling, *, opcode='all-reduce', rest='use_global_device_ids=true, ', header='num_partitions=8'):
    text = f"""HloModule f, {header}
ENTRY %main (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0}} parameter(0)
  ROOT %c = f32[8]{{0}} {opcode}(%p), channel_id=1, replica_groups={spelling}, {rest}to_apply=%add
}}
"""
    module = hlo.parse(text)
    return replica_groups(module, module.entry.root)


@pytest.mark.parametrize(
    ('spelling', 'expected', 'axes'),
    [
        ('{{0,1,2,3},{4,5,6,7}}', IDS, ('y',)),
        ('{{0,4},{1,5},{2,6},{3,7}}', IDS.T, ('x',)),
        ('[2,4]<=[8]', IDS, ('y',)),
        ('[4,2]<=[2,4]T(1,0)', IDS.T, ('x',)),
        ('[4,2]<=[2,2,2]T(2,1,0)', np.arange(8).reshape(2, 2, 2).transpose(2, 1, 0).reshape(4, 2), ('x',)),
        ('[1,8]<=[8]', IDS.reshape(1, 8), ('x', 'y')),
        ('{}', IDS.reshape(1, 8), ('x', 'y')),
        ("mesh['x'=2,'y'=4] {'y'}", IDS, ('y',)),
        ("mesh['x'=2,'y'=4] {'x'}", IDS.T, ('x',)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", IDS.reshape(1, 8), ('x', 'y')),
        ('mesh[x=2,y=4] {y:(1)2}', np.array([[0, 2], [1, 3], [4, 6], [5, 7]]), ('y',)),
        ("mesh['x'=2,'y'=4] {'y':(2)2}", np.array([[0, 1], [2, 3], [4, 5], [6, 7]]), ('y',)),
        ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", IDS.T, ('x',)),
        ("mesh['a'=4,'b'=2], device_ids=(0,4,1,5,2,6,3,7) {'b'}", IDS.T, ('x',)),
        ('{{0,1},{2,3},{4,5},{6,7}}', np.arange(8).reshape(4, 2), ('y',)),
        ('{{0,5},{1,4},{2,7},{3,6}}', np.array([[0, 5], [1, 4], [2, 7], [3, 6]]), ('mixed',)),
    ],
)
def test_spellings(spelling, expected, axes):
    found = groups(spelling)
    assert {frozenset(row) for row in found.tolist()} == {frozenset(row) for row in expected.tolist()}
    assert axes_of(found, MESH) == axes


def test_ids_of_replicas_stand_for_all_their_partitions():
    header = 'replica_count=2, num_partitions=4'
    assert groups('{{0,1}}', rest='', header=header).tolist() == [list(range(8))]
    assert groups('{{0},{1}}', rest='', header=header).tolist() == IDS.tolist()


def test_an_unknown_spelling_is_refused():
    with pytest.raises(ValueError, match='unknown spelling'):
        groups('v9(3)')


def test_a_permute_is_on_the_axes_that_it_crosses():
    assert permuted_axes(np.array([[0, 1], [3, 0]]), MESH) == ('y',)
    assert permuted_axes(np.array([[0, 4], [4, 0]]), MESH) == ('x',)
    assert permuted_axes(np.array([[0, 1], [0, 4]]), MESH) == ('x', 'y')
