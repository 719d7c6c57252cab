"""The last full result of `scripts/faults/kill`: of every place that it names today. It has no short form here yet."""

import json
from pathlib import Path

from mmjax.faults import kill

FOUND = json.loads((Path(__file__).parents[2] / 'experiments/faults/kill.json').read_text())


def test_the_full_result_is_of_each_place_and_of_20_moments_all_survived():
    assert FOUND['survived'] == FOUND['trials']
    places = {name.removesuffix('/trials') for name in FOUND if name.endswith('/trials')}
    assert places == {*kill.PLACES, kill.RANDOM, kill.GROUP, kill.ALONE, 'examples'}
    assert FOUND['random/trials'] >= 20 and min(FOUND['group/trials'], FOUND['supervised/trials']) >= 6
