"""Whether a run that was harmed is the run that was not."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.train.checkpoint import reading
from mmjax.train.metrics import read_rows


def state_of(run: Path) -> dict[str, str]:
    """The digest of every array of its newest checkpoint, as saved: parameters, optimiser, moving average, step."""
    with reading(run) as checkpoints:
        return checkpoints.about(checkpoints.steps[-1])['leaves']


def difference(run: Path, whole: Path) -> str:
    """Of two finished runs; '' where states, metrics, results and predictions are the same bit for bit."""
    for name in ('metrics.jsonl', 'results.json'):
        if not (run / name).exists() or (run / name).read_bytes() != (whole / name).read_bytes():
            return f'{name} is another'
    ours, theirs = state_of(run), state_of(whole)
    for path in sorted({*ours, *theirs}):
        if ours.get(path) != theirs.get(path):
            return f'{path} is {ours.get(path)}, not {theirs.get(path)}'
    for file in sorted((whole / 'predictions').iterdir()):
        with np.load(file) as right, np.load(run / 'predictions' / file.name) as left:
            if any(not np.array_equal(left[name], right[name]) for name in right.files):
                return f'predictions/{file.name} is another'
    return ''


def rows_that_differ(run: Path, whole: Path) -> str:
    """Of a run that was interrupted; '' where each row so far is that of the whole run, once, in its order."""
    rows = read_rows(run / 'metrics.jsonl') if (run / 'metrics.jsonl').exists() else []
    right: list[dict[str, Any]] = read_rows(whole / 'metrics.jsonl')
    for row, expected in zip(rows, right, strict=False):
        if row != expected:
            return f'step {row["step"]} has {json.dumps(row)[:200]}, not {json.dumps(expected)[:200]}'
    return '' if len(rows) <= len(right) else 'more rows than the whole run'
