"""The last full result of `scripts/faults/kill`: of every place that it names today. It has no short form here yet."""

from mmjax.faults import kill
from tests.faults.results import committed, faults

FOUND = committed('kill')


def test_the_full_result_is_of_each_place_and_of_20_moments_all_survived():
    assert FOUND['survived'] == FOUND['trials']
    assert faults(FOUND) == {*kill.PLACES, kill.RANDOM, kill.GROUP, kill.ALONE, 'examples'}
    assert FOUND['random/trials'] >= 20 and min(FOUND['group/trials'], FOUND['supervised/trials']) >= 6
