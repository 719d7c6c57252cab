"""The last full result of `scripts/faults/signal`: of every place and hang that it names today.

Short forms are in tests/train/test_trouble.py and tests/distributed/.
"""

from mmjax.faults import signals
from tests.faults.results import committed, faults

FOUND = committed('signal')


def test_the_full_result_is_of_20_signals_and_each_hang_all_survived():
    assert FOUND['survived'] == FOUND['trials']
    told = {place.partition('@')[0] for place in signals.PLACES} | {signals.STALLED, signals.RANDOM}
    hangs = {*signals.HANGS, 'hang/frozen', 'hang/error'}
    assert faults(FOUND) == {*told, *hangs, signals.GROUP}
    assert sum(FOUND[f'{fault}/trials'] for fault in told) >= 20 and FOUND['group/trials'] >= 4
