"""The last full result of `scripts/faults/disk`; its short forms are in tests/train/test_trouble.py."""

from tests.faults.results import committed

FOUND = committed('disk')


def test_the_full_result_is_of_runs_rows_and_ledgers_all_survived():
    assert FOUND['survived'] == FOUND['trials']
    assert min(FOUND[f'{kind}/trials'] for kind in ('checkpoints', 'rows', 'ledger')) >= 6
