"""Recall across two kinds of rows, worked by hand."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.across import RetrievalAcross
from mmjax.evals.intervals import share_interval

LABELS = {'style': ('color', 'lines', 'other')}
ACROSS = RetrievalAcross(queries='lines', gallery='color', group='base', ks=(1, 2))


def scored(evaluator, x, style, base):
    columns = evaluator.predictions({'image': np.asarray(x)}, {'style': np.asarray(style), 'base': np.asarray(base)})
    return evaluator.metrics(columns, LABELS)


def test_worked_by_hand():
    """The lines of 7 are nearest to its colours, those of 8 to the colours of 7, then to its own; 9 is of neither."""
    x = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.6, 0.4], [1.0, 1.0]]
    found = scored(ACROSS, x, [0, 0, 1, 1, 2], [7, 8, 7, 8, 9])
    assert {name: score for name, score in found.items() if not name.startswith(('low', 'high'))} == {
        'recall@1/lines_to_color': 0.5,
        'chance@1/lines_to_color': 0.5,
        'recall@2/lines_to_color': 1.0,
        'chance@2/lines_to_color': 1.0,
    }
    for k, hits in ((1, [True, False]), (2, [True, True])):
        bounds = found[f'low@{k}/lines_to_color'], found[f'high@{k}/lines_to_color']
        assert bounds == share_interval(np.array(hits), np.array([7, 8]))


def test_a_query_without_a_right_answer_never_finds_one():
    found = scored(ACROSS, np.eye(3), [0, 0, 1], [7, 8, 9])
    assert found['recall@2/lines_to_color'] == found['chance@2/lines_to_color'] == 0


def test_what_is_not_there():
    with pytest.raises(UserError, match="no field of the batch 'bas'"):
        scored(RetrievalAcross(queries='lines', gallery='color', group='bas'), np.eye(2), [0, 1], [7, 7])
    with pytest.raises(UserError, match="style has no class 'line'; did you mean 'lines'"):
        scored(RetrievalAcross(queries='line', gallery='color', group='base'), np.eye(2), [0, 1], [7, 7])
