"""`report.html` of a run directory: one file that loads nothing from anywhere and reads well on a phone.

Each section comes from files of the directory, and is left out where they are missing.
"""

import datetime
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax import config
from mmjax.errors import UserError
from mmjax.evals.base import Columns
from mmjax.experiment import Evaluation, Experiment
from mmjax.storage import AnyPath, modified, path_of, write_bytes
from mmjax.train.files import read_json
from mmjax.train.metrics import read_rows
from mmjax.train.report_examples import cards, choose, confusion
from mmjax.train.report_html import Html, join, page, tag
from mmjax.train.report_plots import plots

EXAMPLES_OF_A_KIND = 6
CLASSIFIED = ('index', 'predicted', 'probability', 'target', 'loss')  # columns that the sections on predictions need


def write_report(run: str | AnyPath, *, experiment: Experiment | None = None) -> AnyPath:
    """Writes RUN/report.html and returns its path.

    experiment: the one of the run, where the caller has it; else it is loaded from config.json, which fails for classes
        of a package that nobody named.

    Raises:
      UserError: RUN has no config.json, or one of its files is damaged.
    """
    run = path_of(run)
    dumped = _json(run / 'config.json')
    if dumped is None:
        raise UserError(f'{run}: holds no config.json, so it is not a run directory')
    of_run: Experiment = config.load(dumped) if experiment is None else experiment
    manifest = _json(run / 'manifest.json') or {}
    metrics, timing = read_rows(run / 'metrics.jsonl'), read_rows(run / 'timing.jsonl')
    columns = {name: table for name in of_run.evals if (table := _columns(run / 'predictions' / f'{name}.npz'))}
    sections = (
        _facts(run, of_run, manifest, metrics, timing),
        _results(of_run, _json(run / 'results.json') or {}, columns),
        _curves(metrics, timing, of_run),
        _predictions(of_run, manifest, columns),
        _details(dumped, manifest),
    )
    text = page(f'{of_run.name}: report', tag('h1', of_run.name), *(part for part in sections if part))
    report = run / 'report.html'
    write_bytes(report, text.encode())
    return report


def _facts(
    run: AnyPath,
    experiment: Experiment,
    manifest: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
) -> Html:
    device = manifest.get('device', {})
    done = max((row['step'] for row in metrics), default=0)
    facts = {
        'steps': f'{done:,}' if done == experiment.steps else f'{done:,} of {experiment.steps:,}',
        'batch size': f'{experiment.batch_size:,}',
        'seed': experiment.seed,
        'parameters': f'{manifest["parameters"]:,}' if 'parameters' in manifest else None,
        'device': f'{device["count"]} x {device["kind"]}' if device else None,
        'examples per second': _median(timing, 'examples_per_second', lambda x: f'{x:,.0f}'),
        'model GFLOP/s': _median(timing, 'flops_per_second', lambda x: f'{x / 1e9:,.1f}'),
        'of the peak (MFU)': _median(timing, 'mfu', lambda x: f'{x:.1%}'),
        'waiting for data': _median(timing, 'data_wait', lambda x: f'{x:.1%} of the time'),
        'last row': _date_of_last_row(run),
    }
    if manifest.get('commit'):
        facts['commit'] = manifest['commit'][:12] + (' + changes' if manifest.get('dirty') else '')
    shown = (tag('div', tag('dt', name), tag('dd', value)) for name, value in facts.items() if value is not None)
    return tag('dl', *shown, class_='facts')


def _median(rows: Sequence[Mapping[str, Any]], key: str, form: Any) -> str | None:
    values = [float(row[key]) for row in rows if key in row]
    return form(float(np.median(values))) if values else None


def _date_of_last_row(run: AnyPath) -> str | None:
    """Rows carry no time, because they must repeat bit for bit; their file was written to with the last of them."""
    file = next((file for file in (run / 'timing.jsonl', run / 'metrics.jsonl') if file.exists()), None)
    if file is None:
        return None
    return datetime.datetime.fromtimestamp(modified(file), datetime.UTC).strftime('%Y-%m-%d %H:%M UTC')


def _results(experiment: Experiment, results: Mapping[str, Any], columns: Mapping[str, Columns]) -> Html | None:
    tables = []
    for name, evaluation in experiment.evals.items():
        scores = {key.removeprefix(f'{name}/'): value for key, value in results.items() if key.startswith(f'{name}/')}
        if not scores:
            continue
        rows = [_row(metric, float(value), is_share=metric.split('/')[0] != 'loss') for metric, value in scores.items()]
        references = sorted(evaluation.references.items(), key=lambda item: -item[1])
        if references:
            rows.append(tag('tr', tag('th', 'to read it against', colspan=3), class_='head'))
            rows += [_row(what, value, is_share=True, class_='reference') for what, value in references]
        count = f' {len(columns[name]["index"]):,} examples' if name in columns and 'index' in columns[name] else ''
        tables.append(tag('div', tag('h3', name, tag('span', count)), tag('table', *rows, class_='results')))
    return join(tag('h2', 'Results'), tag('div', *tables, class_='wide')) if tables else None


def _row(name: str, value: float, *, is_share: bool, class_: str | None = None) -> Html:
    """A score; with a bar, and in percent, where it is a share."""
    is_share = is_share and 0 <= value <= 1
    bar = tag('div', tag('div', style=f'width: {value:.2%}'), class_='bar') if is_share else ''
    shown = f'{value:.2%}' if is_share else f'{value:.4g}' if math.isfinite(value) else str(value)
    return tag('tr', tag('th', name), tag('td', bar), tag('td', shown), class_=class_)


def _curves(
    metrics: Sequence[Mapping[str, Any]], timing: Sequence[Mapping[str, Any]], experiment: Experiment
) -> Html | None:
    figures = [
        tag(
            'figure',
            tag('figcaption', plot.title, tag('div', plot.note, class_='wrong') if plot.note else ''),
            tag('img', src=plot.image, alt=f'{plot.title}, by step'),
        )
        for plot in plots(metrics, timing, evals=tuple(experiment.evals))
    ]
    return join(tag('h2', 'Curves'), tag('div', *figures, class_='wide')) if figures else None


def _predictions(experiment: Experiment, manifest: Mapping[str, Any], columns: Mapping[str, Columns]) -> Html | None:
    """Of the last evaluation that classifies."""
    names = [name for name, table in columns.items() if set(CLASSIFIED) <= set(table) and len(table['index'])]
    if not names:
        return None
    name, evaluation = names[-1], experiment.evals[names[-1]]
    labels = manifest.get('labels', {})
    target = getattr(evaluation.evaluator, 'target', '')
    parts = []
    table = confusion(columns[name], labels.get(target, ()))
    if table:
        legend = tag('p', 'True classes in rows, predicted ones in columns.', class_='soft')
        parts += [tag('h2', f'Confusion on {name}'), legend, table]
    parts.append(tag('h2', f'Examples of {name}'))
    try:
        parts.append(_examples(name, evaluation, manifest, columns[name]))
    except UserError as error:
        parts.append(tag('p', f'Left out: {error}', class_='soft'))
    return join(*parts)


def _examples(name: str, evaluation: Evaluation, manifest: Mapping[str, Any], columns: Columns) -> Html:
    reader = evaluation.data.source.open()
    if reader.fingerprint != manifest.get('data', {}).get(name, reader.fingerprint):
        raise UserError('the data of this run are not the ones that are here now')
    wrong = int((columns['predicted'] != columns['target']).sum())
    worst, drawn = choose(columns, each=EXAMPLES_OF_A_KIND)
    groups = (
        ('Wrong, most confident first', f' the {len(worst)} with the highest loss, of {wrong:,} wrong answers', worst),
        ('Drawn at random', ' the same rows in every run', drawn),
    )
    parts = []
    for title, about, places in groups:
        if len(places):
            examples = reader.read([int(row) for row in columns['index'][places]])
            target, labels = getattr(evaluation.evaluator, 'target', ''), manifest.get('labels', {})
            parts.append(tag('h3', title, tag('span', about)))
            parts.append(cards(places, columns, examples, target=target, labels=labels))
    return join(*parts)


def _details(dumped: Mapping[str, Any], manifest: Mapping[str, Any]) -> Html:
    files = {'config.json': dumped, 'manifest.json': manifest}
    shown = [
        tag('details', tag('summary', name), tag('pre', json.dumps(content, indent=1, ensure_ascii=False)))
        for name, content in files.items()
        if content
    ]
    return join(tag('h2', 'Everything that decided this run'), *shown)


def _json(file: AnyPath) -> dict[str, Any] | None:
    return read_json(file) if file.exists() else None


def _columns(file: AnyPath) -> Columns | None:
    if not file.exists():
        return None
    try:
        with np.load(io.BytesIO(file.read_bytes())) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        how = 'remove it and results.json, and train again: only scoring is repeated'
        raise UserError(f'{file}: is damaged ({error}); {how}') from error
