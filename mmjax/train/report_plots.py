"""The curves of a run, one small SVG each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmjax.train.figures import PALETTE, data_uri, labels, legend, new_figure

MOST_SERIES = 8  # in one plot; what the palette can tell apart
MOST_POINTS = 400  # of one line; more are binned

LEARNING_RATE = 'Learning rate'
EXAMPLES_RATE = 'Examples per second'
DATA_WAIT = 'Share of time spent waiting for data'
FROM_ZERO = (LEARNING_RATE, EXAMPLES_RATE, DATA_WAIT)  # where the size of a change beside the value matters

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plot:
    """A title, an SVG as a data URI, and what a reader must know that the lines don't show."""

    title: str
    image: str
    note: str


@dataclass(frozen=True)
class Series:
    """One line: `values` [n] at `steps` [n]."""

    name: str
    steps: np.ndarray
    values: np.ndarray
    marked: bool  # few points, each worth seeing


def plots(metrics: Rows, timing: Rows, *, evals: Iterable[str]) -> list[Plot]:
    """Draws what the rows of metrics.jsonl and timing.jsonl hold; a plot without any data is left out.

    evals: names of the evaluations; their metrics are the keys `NAME/…`.
    """
    keys = list(dict.fromkeys(key for row in metrics for key in row))
    scored = [key for key in keys if key.split('/')[0] in evals]
    training = [key for key in keys if key == 'loss' or key.startswith('loss/')]
    if len(training) == 2:
        training = ['loss']  # of one objective, which is the sum
    losses = [key for key in scored if key.endswith('/loss')]
    norms = [key for key in keys if key.split('/')[0] in ('grad_norm', 'grad_norm_of')]
    shares = [key for key in keys if key.split('/')[0] in ('tokens', 'tokens_of', 'fill')]
    wanted = (
        ('Loss', [*_lines(metrics, training), *_lines(metrics, losses, marked=True)]),
        ('Scores at evaluations', _lines(metrics, [key for key in scored if key not in losses], marked=True)),
        ('Gradient norm, whole, by part and of a source', _lines(metrics, norms, strip='grad_norm/')),
        ('Tokens: share of a modality, of a source; how full packed rows are', _lines(metrics, shares)),
        (LEARNING_RATE, _lines(metrics, ['learning_rate'])),
        (EXAMPLES_RATE, _lines(timing, ['examples_per_second'])),
        (DATA_WAIT, _lines(timing, ['data_wait'])),
    )
    return [_plot(title, lines, from_zero=title in FROM_ZERO) for title, lines in wanted if lines]


def _lines(rows: Rows, keys: Sequence[str], *, marked: bool = False, strip: str = '') -> list[Series]:
    found = []
    for key in keys:
        points = [(row['step'], float(row[key])) for row in rows if key in row]
        if points:
            steps, values = np.array(points, np.float64).T
            found.append(Series(key.removeprefix(strip), steps, values, marked))
    return found


def _plot(title: str, lines: list[Series], *, from_zero: bool) -> Plot:
    shown = lines[:MOST_SERIES]
    notes = [f'{len(lines) - len(shown)} more in metrics.jsonl'] if len(lines) > len(shown) else []
    figure, axes = new_figure()
    for line, color in zip(shown, PALETTE, strict=False):
        bad = ~np.isfinite(line.values)
        if bad.any():
            notes.append(
                f'{line.name} is not finite at {bad.sum()} of {len(bad)} rows, first at step {line.steps[bad][0]:.0f}'
            )
        steps, mean, low, high = binned(line.steps, np.where(bad, np.nan, line.values), most=MOST_POINTS)
        axes.plot(
            steps, mean, color=color, label=line.name, linewidth=1.3, marker='o' if line.marked else None, markersize=3
        )
        if len(steps) < len(line.steps):
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlim(left=0)
    if from_zero:
        axes.set_ylim(bottom=0)
    elif _spans_decades(shown):
        axes.set_yscale('log')
    labels(axes, x='step')
    if len(shown) > 1:
        legend(axes)
    return Plot(title, data_uri(figure), '; '.join(notes))


def binned(steps: np.ndarray, values: np.ndarray, *, most: int) -> tuple[np.ndarray, ...]:
    """Returns (steps, mean, lowest, highest) of runs of neighbouring points, so that at most `most` are left."""
    size = -(-len(values) // most)
    starts = np.arange(0, len(values), size)
    counts = np.diff(starts, append=len(values))
    mean = [np.add.reduceat(column, starts) / counts for column in (steps, values)]
    return *mean, np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def _spans_decades(lines: list[Series]) -> bool:
    values = np.concatenate([line.values for line in lines])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 50 * values.min())
