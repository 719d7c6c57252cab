"""Gradient blending's weights as they are measured: the equation on losses that are told, of both ends of each run."""

import re

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.fusion.late import Late
from mmjax.study.blending import main, measured_weights
from mmjax.study.remedies import with_heads
from tests.train import toy
from tests.train.test_lanes import small


def test_weights_are_those_of_the_losses_that_it_prints(capfd):
    """dG / dO^2 of each objective, over their sum; an objective alone changes, and the losses are of both ends."""
    weights = measured_weights(with_heads(toy.experiment(model=small().clone(fusion=Late(depth=0)))), split='test')
    lines = re.findall(r'(\w+) alone: train (\S+) -> (\S+); validation (\S+) -> (\S+)', capfd.readouterr().err)
    losses = {name: np.array(numbers, float) for name, *numbers in lines}
    assert list(losses) == list(weights) == ['answer', 'answer_image', 'answer_text']
    expected = {}
    for name, (train_0, train_1, validation_0, validation_1) in losses.items():
        assert train_0 != train_1 and abs(train_0 - validation_0) < 0.5
        overfitting = (validation_1 - train_1) - (validation_0 - train_0)
        expected[name] = max(0, validation_0 - validation_1) / overfitting**2
    total = sum(expected.values())
    assert weights == pytest.approx({name: x / total for name, x in expected.items()}, rel=0.05)


def test_what_cannot_be_measured_is_told(capsys, tmp_path):
    with pytest.raises(UserError, match="no evaluation 'dev'"):
        measured_weights(with_heads(toy.experiment(model=small().clone(fusion=Late(depth=0)))), split='dev')
    assert main([str(tmp_path / 'none.py'), 'early']) == 2
    assert 'no such config file' in capsys.readouterr().err
