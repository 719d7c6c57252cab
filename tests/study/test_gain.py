"""The table of gains, from runs that are there, against the means of what they predicted."""

import json

import numpy as np
import pytest

from mmjax.study import gain

STAGES = ('tuned_1', 'scratch_1')
CONFIG = """
import dataclasses
from tests.train import toy
def experiment():
    return tuple(toy.experiment(name=name) for name in ({names}))
"""


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    """A config; instead of training, predictions of 21 examples for three seeds, right at a rate of their own."""
    right = {}

    def train_stages(stages, *, workdir, config_file):
        for stage, rate in zip(STAGES, (0.9, 0.5), strict=True):
            seed = stages[stage].seed
            right[stage, seed] = np.random.default_rng([seed, int(rate * 10)]).random(21) < rate
            (tmp_path / workdir / stage / 'predictions').mkdir(parents=True)
            path = tmp_path / workdir / stage / 'predictions' / 'test.npz'
            np.savez(path, predicted=np.where(right[stage, seed], 3, 4), target=np.full(21, 3))

    monkeypatch.setattr(gain, 'train_stages', train_stages)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'two.py').write_text(CONFIG.format(names="'pretrain', 'tuned_1', 'scratch_1'"))
    (tmp_path / 'one.py').write_text(CONFIG.format(names="'pretrain', 'tuned_1'"))
    return right


def test_gain_is_the_difference_of_the_means(predicted, capsys):
    assert gain.main(['two.py', '--seeds', '0', '1', '2', '--json', 'table.json', '--workdir', 'runs']) == 0
    with open('table.json') as file:
        table = json.load(file)
    means = {stage: np.mean([predicted[stage, seed] for seed in (0, 1, 2)]) for stage in STAGES}
    assert table['two/1/pretrained'] == pytest.approx(means['tuned_1'])
    assert table['two/1/scratch'] == pytest.approx(means['scratch_1'])
    assert table['two/1/gain'] == pytest.approx(means['tuned_1'] - means['scratch_1'])
    assert table['two/1/gain_low'] < table['two/1/gain'] < table['two/1/gain_high']
    assert f'{means["tuned_1"]:.4f}' in capsys.readouterr().out


def test_what_cannot_be_compared_is_told(predicted, capsys):
    for argv, told in (
        (['one.py', '--seeds', '0', '1'], 'has no stages tuned_S and scratch_S'),
        (['two.py', '--seeds', '1'], 'takes two or more'),
        (['two.py', '--seeds', '0', '1', '--clusters', 'image_id'], 'read from a Tfds source, not a Toy'),
        (['two.py', '--seeds', '0', '1', '--set', 'pretrain.stpes=1'], "did you mean 'steps'"),
    ):
        assert gain.main(argv) == 2
        assert told in capsys.readouterr().err
