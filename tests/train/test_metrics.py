"""The files that a run writes."""

import json

import pytest

from mmjax.errors import UserError
from mmjax.train.metrics import JsonLines, Writers, read_rows
from mmjax.train.timing import Stopwatch


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    lines = JsonLines(path, step=1)
    lines.write({'step': 2, 'loss': 1.5})
    lines.close()
    assert read_rows(path) == [{'step': 1, 'loss': 3.0}, {'step': 2, 'loss': 1.5}]


def test_what_is_not_a_number_stays_json(tmp_path):
    lines = JsonLines(tmp_path / 'm.jsonl', step=0)
    lines.write({'step': 1, 'loss': float('nan'), 'grad_norm': float('inf')})
    lines.close()
    assert json.loads((tmp_path / 'm.jsonl').read_text(), parse_constant=pytest.fail) == {
        'step': 1,
        'loss': 'nan',
        'grad_norm': 'inf',
    }


def test_event_files_hold_the_same_rows(tmp_path):
    writers = Writers(tmp_path, step=0, tensorboard=True, wandb=False, config={})
    writers.metrics(1, {'loss': 2.5})
    writers.timing(1, {'examples_per_second': 10.0})
    writers.close()
    events = next((tmp_path / 'tensorboard').iterdir()).read_bytes()
    assert b'loss' in events and b'timing/examples_per_second' in events
    assert [row['step'] for row in read_rows(tmp_path / 'timing.jsonl')] == [1]


def test_missing_wandb_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'wandb', None)
    with pytest.raises(UserError, match='extra `wandb`'):
        Writers(tmp_path, step=0, tensorboard=False, wandb=True, config={})


def test_stopwatch_leaves_pauses_out(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('time.perf_counter', lambda: now[0])
    watch = Stopwatch(work={'examples': 8.0, 'flops': 1e9}, peak_flops=4e9)
    watch.restart(10)
    now[0] += 7
    watch.paused(5.0)
    watch.waited(0.5)
    rates = watch.read(14)
    assert rates == {
        'examples_per_second': 16.0, 'flops_per_second': 2e9, 'seconds_per_step': 0.5, 'data_wait': 0.25, 'mfu': 0.5
    }  # fmt: skip
    assert watch.read(14) == {}
