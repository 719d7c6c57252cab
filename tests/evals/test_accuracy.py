"""Accuracy, counted by hand."""

import math

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]], np.float32))
OUTPUTS = {'answer': LOGITS}
DATA = {'answer': np.array([0, 1, 2, 2]), 'kind': np.array([0, 1, 1, 1])}


def test_predictions_of_each_example():
    columns = Accuracy().predictions(OUTPUTS, DATA)
    assert columns['predicted'].tolist() == [0, 1, 0, 2]
    np.testing.assert_allclose(columns['probability'], [0.7, 0.6, 0.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(columns['loss'], [-math.log(p) for p in (0.7, 0.6, 0.2, 0.5)], rtol=1e-5)
    assert 'by' not in columns


def test_metrics_apart_by_a_field():
    evaluator = Accuracy(by='kind')
    columns = evaluator.predictions(OUTPUTS, DATA)
    scores = evaluator.metrics(columns, {'kind': ('open', 'closed')})
    assert scores['accuracy'] == 0.75
    assert scores['accuracy/open'] == 1 and scores['accuracy/closed'] == pytest.approx(2 / 3)
    assert scores['loss'] == pytest.approx(-math.log(0.7 * 0.6 * 0.2 * 0.5) / 4, rel=1e-5)
    assert set(evaluator.metrics(columns, {})) == {'accuracy', 'loss', 'accuracy/kind=0', 'accuracy/kind=1'}


def test_examples_without_the_target_are_left_out():
    columns = Accuracy().predictions(OUTPUTS, DATA | {'answer/present': np.array([True, True, False, True])})
    assert Accuracy().metrics(columns, {})['accuracy'] == 1


@pytest.mark.parametrize(
    ('evaluator', 'message'),
    [
        (Accuracy(output='anser'), "no output of the model 'anser'; did you mean 'answer'"),
        (Accuracy(target='label'), "no field of the batch 'label'"),
        (Accuracy(by='kin'), "no field of the batch 'kin'; did you mean 'kind'"),
    ],
)
def test_missing_fields(evaluator, message):
    with pytest.raises(UserError, match=message):
        evaluator.predictions(OUTPUTS, DATA)
