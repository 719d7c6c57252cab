"""A short form of `scripts/faults/fuzz`, whose last full result is committed."""

from mmjax.faults import fuzz
from tests.faults.results import committed

FOUND = committed('fuzz')


def test_the_full_result_is_of_10_000_mutations_all_survived():
    assert FOUND['survived'] == FOUND['trials'] >= 10_000


def test_some_mutations_of_each_kind_are_survived():
    done = fuzz.run(trials=600, seed=1)
    assert {'png', 'tar', 'config.json', 'manifest.json'} < {trial.fault for trial in done}
    assert [trial for trial in done if trial.wrong] == []


def test_an_error_that_was_not_declared_is_caught():
    def read(content: bytes) -> None:
        raise KeyError('left')

    assert 'KeyError' in fuzz.judged(b'', read)
