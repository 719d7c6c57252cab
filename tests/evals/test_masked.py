"""Accuracy of masked tokens by hand."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.masked import MaskedAccuracy


def test_masked_tokens_alone_count():
    logits = np.log(np.array([[[0.1, 0.9, 0], [0.5, 0.2, 0.3]], [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]]) + 1e-12)
    batch = {
        'text/target': np.array([[1, 1], [2, 1]]),
        'text/masked': np.array([[True, False], [True, True]]),
    }
    evaluator = MaskedAccuracy()
    scores = evaluator.metrics(evaluator.predictions({'text': logits}, batch), {})
    assert scores['accuracy'] == pytest.approx(2 / 3) and scores['accuracy_of_commonest'] == pytest.approx(2 / 3)
    assert scores['loss'] == pytest.approx(-np.log([0.9, 0.5, 0.3]).mean(), rel=1e-5)
    with pytest.raises(UserError, match="'text' is not masked"):
        evaluator.predictions({'text': logits}, {})
