"""`compare` on run directories written by hand: what is told, in which order, and where metrics part."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmjax.errors import UserError
from mmjax.train.compare import compare

CONFIG = {
    'schema': 1,
    'commit': 'aaa',
    'class': 'mmjax.x.Experiment',
    'seed': 0,
    'fusion': {'class': 'a.Early', 'depth': 2},
}
MANIFEST = {
    'config_file': 'configs/x.py',
    'config_hash': '00',
    'commit': 'aaa',
    'dirty': False,
    'packages': {'jax': '0.10.2', 'flax': '0.12.8'},
    'device': {'kind': 'cpu', 'count': 1},
    'parameters': 10,
    'data': {'train': 'f1', 'test': 'f2'},
}
ROWS = [
    {'step': 20, 'loss': 2.0},
    {'step': 20, 'validation/accuracy': 0.1},
    {'step': 40, 'loss': 1.5, 'norm': float('nan')},
]


@pytest.fixture
def make(tmp_path):
    def make(name: str, *, config: Any = CONFIG, manifest: Any = MANIFEST, rows: Any = ROWS, results: Any = None):
        run = Path(tmp_path, name)
        run.mkdir()
        (run / 'config.json').write_text(json.dumps(config))
        (run / 'manifest.json').write_text(json.dumps(manifest))
        (run / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        if results:
            (run / 'results.json').write_text(json.dumps(results))
        return str(run)

    return make


def test_equal_runs_differ_in_nothing(make):
    assert compare(make('a'), make('b')) == {}


def test_everything_that_differs_is_told_from_cause_to_effect(make):
    a = make('a', results={'test/accuracy': 0.5})
    b = make(
        'b',
        config=CONFIG | {'commit': 'bbb', 'seed': 1, 'fusion': {'class': 'a.Late'}},
        manifest=MANIFEST
        | {
            'config_hash': '11',
            'commit': 'bbb',
            'parameters': 9,
            'packages': {'jax': '0.12.0'},
            'data': {'train': 'f3', 'test': 'f2'},
        },
        rows=[ROWS[0], {'step': 20, 'validation/accuracy': 0.2}, {'step': 40, 'loss': 9.0}, {'step': 60, 'loss': 8.0}],
        results={'test/accuracy': 0.6},
    )
    assert list(compare(a, b).items()) == [
        ('config/seed', [0, 1]),
        ('config/fusion', ['Early(depth=2)', 'Late']),
        ('config/parameters', [10, 9]),
        ('code/commit', ['aaa', 'bbb']),
        ('data/train', ['f1', 'f3']),
        ('environment/packages/jax', ['0.10.2', '0.12.0']),
        ('environment/packages/flax', ['0.12.8', '(absent)']),
        ('metrics/validation/accuracy@20', [0.1, 0.2]),  # step 40 differs too, but is not the first
        ('metrics/steps', [40, 60]),
        ('results/test/accuracy', [0.5, 0.6]),
    ]


def test_a_nan_in_both_runs_is_no_difference_and_a_line_cut_off_by_a_kill_is_left_out(make):
    a, b = make('a'), make('b')
    with Path(b, 'metrics.jsonl').open('a') as file:
        file.write('{"step": 60, "lo')
    assert compare(a, b) == {}


@pytest.mark.parametrize('name', ['config.json', 'manifest.json'])
def test_a_damaged_run_is_told_with_its_file(make, name):
    a, b = make('a'), make('b')
    Path(b, name).write_text('{')
    with pytest.raises(UserError, match=f'b/{name}: is no JSON'):
        compare(a, b)
    Path(b, name).unlink()
    with pytest.raises(UserError, match=f'b/{name}: No such file'):
        compare(a, b)
