"""What differs between two runs, read from their directories alone: nothing is imported or run again."""

from collections.abc import Iterator
from typing import Any

from mmjax import config
from mmjax.config.differences import ABSENT
from mmjax.storage import AnyPath, path_of
from mmjax.train.files import read_json
from mmjax.train.metrics import read_rows

# What the entries of manifest.json tell of; the rest is the environment.
SECTIONS = {
    'parameters': 'config',
    'init_from': 'config',
    'config_file': 'code',
    'code': 'code',
    'commit': 'code',
    'dirty': 'code',
    'data': 'data',
    'labels': 'data',
}
UNTOLD = ('config_hash',)  # follows from the config


def compare(run_a: str, run_b: str) -> dict[str, list[Any]]:
    """Returns {'SECTION/NAME': [value in a, value in b]} of everything that differs, in the order of cause and effect:

    config, code, data, environment; then `metrics/NAME@STEP` for the first step at which logged metrics part (and
    `metrics/steps` where one run is longer), then results.

    Raises:
        UserError: a file of a run is missing or is no JSON.
    """
    a, b = path_of(run_a), path_of(run_b)
    told = causes(a, b)
    rows = metrics_of(a), metrics_of(b)
    told |= {f'metrics/{key}@{step}': pair for key, step, pair in first_parting(*rows)}
    if max(rows[0], default=0) != max(rows[1], default=0):
        told['metrics/steps'] = [max(part, default=0) for part in rows]
    results = [read_json(run / 'results.json') if (run / 'results.json').exists() else {} for run in (a, b)]
    told |= {f'results/{key}': pair for key, pair in _differences(*results)}
    return told


def causes(a: AnyPath, b: AnyPath) -> dict[str, list[Any]]:
    """Of two runs what differs in config, code, data and environment."""
    configs = [read_json(run / 'config.json') for run in (a, b)]
    told = {f'config/{path or "class"}': [x, y] for path, x, y in config.diff(*configs)}
    manifests = [_flat(read_json(run / 'manifest.json')) for run in (a, b)]
    for section in ('config', 'code', 'data', 'environment'):
        for key, pair in _differences(*manifests):
            head = key.partition('/')[0]
            if SECTIONS.get(head, 'environment') == section and head not in UNTOLD:
                told[f'{section}/{key.removeprefix(f"{section}/")}'] = pair
    return told


def first_parting(a: dict[int, dict[str, Any]], b: dict[int, dict[str, Any]]) -> Iterator[tuple[str, int, list[Any]]]:
    """Metric, step and both values of what differs in the first row, of those that both have, that is not the same."""
    for step in sorted(a.keys() & b.keys()):
        parted = list(_differences(a[step], b[step]))
        if parted:
            yield from ((key, step, pair) for key, pair in parted)
            break


def _differences(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for key in [*a, *(key for key in b if key not in a)]:
        x, y = a.get(key, ABSENT), b.get(key, ABSENT)
        if x != y and not (x != x and y != y):  # a NaN is the same in both
            yield key, [x, y]


def _flat(value: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for key, item in value.items():
        flat |= _flat(item, f'{prefix}{key}/') if isinstance(item, dict) else {f'{prefix}{key}': item}
    return flat


def metrics_of(run: AnyPath) -> dict[int, dict[str, Any]]:
    """The rows of metrics.jsonl by step; several rows of one step are one."""
    steps: dict[int, dict[str, Any]] = {}
    for row in read_rows(run / 'metrics.jsonl'):
        steps.setdefault(row['step'], {}).update(row)
    return steps
