"""A short form of `scripts/faults/bad`, whose last full result is committed."""

from mmjax.faults import bad
from tests.faults.results import committed, faults

FOUND = committed('bad')


def test_the_full_result_is_of_readers_runs_and_memory_all_survived():
    assert FOUND['survived'] == FOUND['trials']
    assert faults(FOUND) == {'read', 'run', 'resumed', 'group', 'budget', 'memory'} and FOUND['read/trials'] >= 8


def test_who_looks_at_no_example_is_caught(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    wrong = bad.dirty.write(tmp_path / bad.dirty.FOLDER, rows=200, share=0.01, seed=1)
    assert [trial for trial in bad.read(200, wrong, ways=[(1, False, 0), (2, True, 0)]) if trial.wrong] == []
    missed = wrong | {next(row for row in range(200) if row not in wrong): 'torn'}
    (trial,) = bad.read(200, missed, ways=[(1, False, 0)])
    assert 'is None, not torn' in trial.wrong
