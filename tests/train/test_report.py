"""A report is read back as a browser would: parsed, its text compared with what the run's files hold."""

import base64
import dataclasses
import importlib.util
import io
import json
import os
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mmjax import config
from mmjax.data import Data, Tfds
from mmjax.data.base import Example, Reader, Source
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.train.report import write_report

ANSWERS = (
    'no',
    'yes',
    'circle',
    'rectangle',
    'triangle',
    'black',
    'blue',
    'brown',
    'gray',
    'green',
    'red',
    'teal',
    'yellow',
)
FILES = ('manifest.json', 'metrics.jsonl', 'timing.jsonl', 'results.json', 'predictions/test.npz')
KINDS = ('yes/no', 'open')
HOSTILE = '<script>alert("x")</script>&amp;'
REFERENCES = {'majority': 0.373, 'question only': 0.67, 'additive': 0.871, "authors' model": 0.9378}


LOST_WITH = {
    'results.json': {'Results'},
    'predictions/test.npz': {'Examples of test'},
}  # other files: parts of a section


class Package(Reader):
    """The official test questions, straight from the package."""

    fingerprint = 'f' * 64

    def __init__(self, hostile: bool):
        self.labels = {'answer': ANSWERS, 'kind': KINDS}
        spec = importlib.util.find_spec('easy_vqa')
        assert spec is not None and spec.origin is not None
        self._folder, self._hostile = Path(spec.origin).parent / 'data/test', hostile
        self._rows = json.loads((self._folder / 'questions.json').read_text())

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self._example(*self._rows[row]) for row in rows]

    def _example(self, question: str, answer: str, image: int) -> Example:
        return {
            'image': (self._folder / f'images/{image}.png').read_bytes(),
            'text': HOSTILE if self._hostile else question,
            'answer': np.int32(ANSWERS.index(answer)),
            'kind': np.int32(answer not in ('yes', 'no')),
        }


@dataclasses.dataclass(frozen=True)
class FromPackage(Source):
    hostile: bool = False

    def open(self) -> Package:
        return Package(self.hostile)


def make_run(run: Path, *, source: Source | None = None, name: str = 'easy_vqa', steps: int = 2000) -> Experiment:
    """Fills `run` with what a training of easy-VQA would leave, and returns its experiment."""
    source, rng = source or FromPackage(), np.random.default_rng(0)
    given_config = config.load_file('configs/easy_vqa.py', kind=Experiment)
    evals = {
        'validation': Evaluation(Data(source), Accuracy(by='kind'), every=500),
        'test': Evaluation(Data(source), Accuracy(by='kind'), references=REFERENCES),
    }
    experiment = dataclasses.replace(given_config, name=name, evals=evals, steps=steps)
    known = dataclasses.replace(
        experiment, evals={n: dataclasses.replace(e, data=given_config.data) for n, e in evals.items()}
    )
    _write(run / 'config.json', {'commit': 'c' * 40, **config.dump(known)})
    _write(run / 'manifest.json', {
        'commit': '0123456789abcdef' * 2, 'dirty': False, 'python': '3.11.2', 'packages': {'jax': '0.10.2'},
        'parameters': 272_333, 'device': {'kind': 'cpu', 'count': 1}, 'data': {'test': Package.fingerprint},
        'labels': {'answer': ANSWERS, 'kind': KINDS},
    })  # fmt: skip
    metrics, timing = [], []
    for step in range(20, steps + 1, 20):
        noise = rng.uniform(0.8, 1.2, 4)
        loss = 2.0 * noise[0] * np.exp(-step / 350) + 0.02
        parts = {'image': 0.9 * loss, 'text': 0.5 * loss, 'fusion': 1.2 * loss, 'decoders_answer': 0.4 * loss}
        norms = {f'grad_norm/{part}': value * rng.uniform(0.7, 1.3) for part, value in parts.items()}
        rate = 1e-3 * min(step / 200, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        metrics.append(
            {'step': step, 'loss': loss, 'loss/answer': loss, 'grad_norm': 1.7 * loss, 'learning_rate': rate, **norms}
        )
        speed = {
            'examples_per_second': 620 * noise[1],
            'tokens_per_second': 45e3 * noise[1],
            'flops_per_second': 6e10 * noise[1],
        }
        timing.append({'step': step, 'seconds_per_step': 0.2, 'data_wait': 0.01 * noise[2], **speed})
        if step % 500 == 0:
            score = 1 - 0.4 * np.exp(-step / 450)
            kinds = {'validation/accuracy/yes/no': score - 0.005, 'validation/accuracy/open': score + 0.004}
            metrics.append({'step': step, 'validation/accuracy': score, 'validation/loss': 1.3 * loss + 0.02, **kinds})
    for file, rows in (('metrics.jsonl', metrics), ('timing.jsonl', timing)):
        (run / file).write_text(''.join(json.dumps(row) + '\n' for row in rows))
    os.utime(run / 'timing.jsonl', (1_700_000_000, 1_700_000_000))
    columns = predictions(rng)
    right = columns['predicted'] == columns['target']
    scores = {
        'accuracy': right.mean(),
        'accuracy/yes/no': right[columns['by'] == 0].mean(),
        'loss': columns['loss'].mean(),
    }
    _write(run / 'results.json', {f'test/{metric}': float(value) for metric, value in scores.items()})
    (run / 'predictions').mkdir()
    np.savez_compressed(run / 'predictions/test.npz', **columns)
    return experiment


def predictions(rng: np.random.Generator, *, count: int = 4000) -> dict[str, np.ndarray]:
    """Mostly right ones; answers are confused within their kind, as a model would."""
    examples = Package(False)._rows[:count]
    target = np.array([ANSWERS.index(answer) for _, answer, _ in examples], np.int32)
    wrong = rng.random(count) < 0.02
    other = np.where(target < 2, 1 - target, np.where(target < 5, 2 + (target - 1) % 3, 5 + (target - 4) % 8))
    probability = np.where(wrong, rng.uniform(0.4, 0.99, count), rng.uniform(0.9, 1, count)).astype(np.float32)
    loss = np.where(wrong, -np.log(1 - probability) + rng.random(count), -np.log(probability)).astype(np.float32)
    return {
        'index': np.arange(count), 'predicted': np.where(wrong, other, target).astype(np.int32),
        'probability': probability, 'target': target, 'loss': loss, 'by': (target > 1).astype(np.int32),
    }  # fmt: skip


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value))


class Seen(HTMLParser):
    """What a document shows: its text by element, its images, the tags that it holds."""

    def __init__(self, report: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(report.read_text())
        assert not self._open, 'every element is closed'

    def handle_starttag(self, name, attrs):
        self.tags.append((name, dict(attrs)))
        if name not in ('meta', 'img'):
            self._open.append(name)

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        if self._open and self._open[-1] != 'style':
            self.texts.append(data)

    @property
    def text(self) -> str:
        return ' '.join(self.texts)

    def images(self, kind: str) -> list[str]:
        return [
            a['src'] or ''
            for name, a in self.tags
            if name == 'img' and (a['src'] or '').startswith(f'data:image/{kind}')
        ]


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp('run')
    write_report(run, experiment=make_run(run))
    return run


@pytest.fixture(scope='module')
def seen(run) -> Seen:
    return Seen(run / 'report.html')


def test_shows_what_the_files_hold(run, seen):
    for shown in ('easy_vqa', '0123456789ab', '2023-11-14 22:13 UTC', '272,333', '1 x cpu', '2,000', '4,000 examples'):
        assert shown in seen.text
    results = json.loads((run / 'results.json').read_text())
    shown = seen.texts[seen.texts.index('accuracy') :]
    table = dict(zip(shown[::2], shown[1::2], strict=False))
    assert table['accuracy'] == f'{results["test/accuracy"]:.2%}'
    assert table['loss'] == f'{results["test/loss"]:.4g}'
    assert set(REFERENCES) <= set(seen.texts) and {'37.30%', '67.00%', '87.10%', '93.78%'} <= set(seen.texts)


def test_loads_nothing_from_anywhere(seen):
    for name, attributes in seen.tags:
        assert name not in ('script', 'link', 'iframe', 'object')
        assert 'href' not in attributes and (attributes.get('src') or 'data:').startswith('data:')
    for svg in seen.images('svg+xml'):
        assert b'<script' not in base64.b64decode(svg.partition(',')[2])


def test_draws_each_curve_and_a_dozen_pictures_of_the_data(seen):
    assert len(seen.images('svg+xml')) == 6
    pictures = seen.images('png')
    assert len(pictures) == 12
    pixels = [PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))) for uri in pictures]
    assert {image.size for image in pixels} == {(64, 64)}


def test_the_wrong_ones_with_the_highest_loss_come_first(tmp_path):
    experiment = make_run(tmp_path)
    columns = dict(np.load(tmp_path / 'predictions/test.npz'))
    text = Seen(write_report(tmp_path, experiment=experiment)).text
    worst = sorted(np.flatnonzero(columns['predicted'] != columns['target']), key=lambda i: -columns['loss'][i])[:6]
    probabilities = [f'({columns["probability"][i]:.1%})' for i in worst]
    start = text.index('Wrong, most confident first')
    places = [text.index(shown, start) for shown in sorted(probabilities, key=lambda p: -float(p[1:-2]))]
    assert places == sorted(places) and places[-1] < text.index('Drawn at random')


def test_user_data_stays_text(tmp_path):
    experiment = make_run(tmp_path, source=FromPackage(hostile=True), name=HOSTILE)
    report = write_report(tmp_path, experiment=experiment)
    seen = Seen(report)
    assert '<script' not in report.read_text().lower()
    assert seen.texts.count(HOSTILE) == 1 + 12  # the headline and every example; parsed back, it is what went in


@pytest.mark.parametrize('missing', FILES)
def test_leaves_out_what_is_missing(tmp_path, seen, missing):
    experiment = make_run(tmp_path)
    (tmp_path / missing).unlink()
    less = Seen(write_report(tmp_path, experiment=experiment))
    assert len(less.tags) < len(seen.tags)
    assert {'Curves', 'Results', 'Examples of test'} - set(less.texts) == LOST_WITH.get(missing, set())


def test_a_run_that_has_only_begun(tmp_path):
    make_run(tmp_path)
    for file in FILES:
        (tmp_path / file).unlink()
    assert '0 of 2,000' in Seen(write_report(tmp_path)).text


def test_without_the_data_only_the_examples_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'nothing'))
    experiment = make_run(tmp_path, source=Tfds('no_such_set', 'test', {'text': 'text'}))
    seen = Seen(write_report(tmp_path, experiment=experiment))
    assert 'Left out: data set' in seen.text and 'Confusion on test' in seen.text and not seen.images('png')


def test_other_data_than_the_run_had_are_not_shown(tmp_path, monkeypatch):
    experiment = make_run(tmp_path)
    monkeypatch.setattr(Package, 'fingerprint', 'e' * 64)
    assert not Seen(write_report(tmp_path, experiment=experiment)).images('png')


def test_no_config_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r'config\.json'):
        write_report(tmp_path)


@pytest.mark.parametrize('file', ['manifest.json', 'results.json', 'predictions/test.npz'])
def test_names_a_damaged_file(tmp_path, file):
    experiment = make_run(tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:100])
    with pytest.raises(UserError, match=file.split('/')[-1]):
        write_report(tmp_path, experiment=experiment)
