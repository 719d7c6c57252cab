"""VQA's accuracy of what a model answers, by hand."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.vqa import VqaAccuracy

OUTPUTS = {'answer': np.array([[5.0, 1, 0, 0], [0, 0, 2, 1], [0, 3, 0, 0], [0, 0, 0, 1]], np.float32)}  # 0 2 1 3
BATCH = {
    'answer/candidates': np.array([[1, 0, -1], [0, -1, -1], [1, 2, 3], [-1, -1, -1]], np.int32),
    'answer/scores': np.array([[1, 0.3, 0], [0.9, 0, 0], [0.6, 0.6, 0.3], [0, 0, 0]], np.float32),
    'kind': np.array([0, 0, 1, 2], np.int32),
}


def test_by_hand():
    evaluator = VqaAccuracy(by='kind')
    columns = evaluator.predictions(OUTPUTS, BATCH)
    assert columns['predicted'].tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(columns['accuracy'], [0.3, 0, 0.6, 0])
    scores = evaluator.metrics(columns, {'kind': ('yes/no', 'number', 'other')})
    assert scores['accuracy'] == pytest.approx(0.9 / 4) and scores['best'] == pytest.approx((1 + 0.9 + 0.6) / 4)
    assert scores['accuracy/yes/no'] == pytest.approx(0.15)
    assert scores['accuracy/number'] == pytest.approx(0.6) and scores['accuracy/other'] == 0
    assert set(VqaAccuracy().metrics(VqaAccuracy().predictions(OUTPUTS, BATCH), {})) == {'accuracy', 'best'}


@pytest.mark.parametrize(
    ('evaluator', 'message'),
    [
        (VqaAccuracy(output='anser'), "no output of the model 'anser'; did you mean 'answer'"),
        (VqaAccuracy(target='kind'), "no field of the batch 'kind/candidates'"),
        (VqaAccuracy(by='knd'), "no field of the batch 'knd'; did you mean 'kind'"),
    ],
)
def test_missing_fields(evaluator, message):
    with pytest.raises(UserError, match=message):
        evaluator.predictions(OUTPUTS, BATCH)
