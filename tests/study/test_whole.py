"""One study for real, small enough for a test: training, probes, projection, report."""

import json

import pytest

from mmjax.cli import main
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation
from mmjax.optim import AdamW, WarmupConstant
from mmjax.study.probes import probes
from mmjax.study.remedies import with_heads
from mmjax.study.study import Arm, Study
from mmjax.train.lanes import Lanes
from tests.train import toy
from tests.train.test_lanes import small


def study() -> Study:
    evals = {name: Evaluation(toy.data(rows=40), Accuracy()) for name in ('validation', 'test')}
    base = toy.experiment(model=small(), evals=evals, steps=40, optim=AdamW(schedule=WarmupConstant(warmup=0)))
    return Study(
        'whole',
        with_heads(base, scale=0.5),
        (Arm('early'),),
        'early',
        rates=(1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3),
        seeds=tuple(range(10, 20)),
        probes=probes(('image', 'text'), toy.data(rows=20), additive=20, levels=(0.5,)),
        quick=('--steps', '4'),
    )


def test_a_whole_study_in_its_quick_form(tmp_path, monkeypatch):
    """By the command that a user types: one regime, five rates, six seeds, four steps."""
    trained = []
    train = Lanes.train
    monkeypatch.setattr(Lanes, 'train', lambda self, given: trained.append(given) or train(self, given))
    file = tmp_path / 'whole.py'
    file.write_text('from tests.study.test_whole import study\n')
    command = ['study', str(file), '--quick', '--workdir', str(tmp_path / 'run')]
    assert main(command) == 0
    assert len(trained) == 5 + 6
    tmp_path /= 'run'
    told = json.loads((tmp_path / 'results.json').read_text())['regimes']['parameters']['early']
    assert told['score'] == pytest.approx(sum(told['by_seed']) / 6)
    probed = told['probes']
    assert probed['with:'] == pytest.approx(0.5, abs=0.2)  # without any input, one answer for all
    worth = sum(told['shapley'].values())
    assert worth == pytest.approx(probed['with:image+text'] - probed['with:'], abs=1e-5)
    assert set(told['noise']) == {'image', 'text'} and told['uses_all'] is None  # no control to hold it against
    assert told['step']['memory'] > 4 * told['parameters'] and 0.2 < told['step']['time'] < 5  # of one like itself
    losses = told['losses']  # of each objective, without its scale
    assert told['curve'][-1] == pytest.approx(
        losses['answer'] + 0.5 * losses['answer_image'] + 0.5 * losses['answer_text'], rel=1e-4
    )
    page = (tmp_path / 'report.html').read_text()
    assert f'<td>{losses["answer_text"]:.3g}</td>' in page
    assert page.count('data:image/svg+xml') >= 8 and 'not shown' not in page
    assert main(command) == 0 and len(trained) == 11
    assert (tmp_path / 'report.html').read_text() == page
