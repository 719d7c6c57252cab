"""The area under the curve against counting pairs, retrieval by match score against sorting."""

import numpy as np
import pytest
from scipy.special import log_softmax

from mmjax.errors import UserError
from mmjax.evals.matching import MatchAuc, MatchRetrieval, auc


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.3
    scores = np.round(rng.standard_normal(60) + positive, 1).astype(np.float32)  # with ties
    a, b = scores[positive][:, None], scores[~positive][None, :]
    assert auc(scores, positive) == pytest.approx(((a > b) + 0.5 * (a == b)).mean())
    assert auc(-scores, positive) == pytest.approx(1 - auc(scores, positive))
    assert auc(np.ones(60, np.float32), positive) == 0.5
    assert auc(np.full(60, np.nan, np.float32), positive) == auc(scores, np.ones(60, bool)) == 0.5


def test_examples_without_the_label_are_left_out():
    logits = np.array([[0.0, 2.0], [1.0, 0.5], [0.0, -1.0], [5.0, 0.0]])
    batch = {'match': np.array([1, 1, 0, 1]), 'match/present': np.array([True, True, True, False])}
    evaluator = MatchAuc()
    found = evaluator.metrics(evaluator.predictions({'match': logits}, batch), {})
    assert found['auc'] == 1 and found['accuracy'] == pytest.approx(2 / 3)
    losses = -log_softmax(logits, axis=1)[[0, 1, 2], [1, 1, 0]]
    assert found['loss'] == pytest.approx(losses.mean(), rel=1e-5)
    nobody = batch | {'match/present': np.zeros(4, bool)}
    assert evaluator.metrics(evaluator.predictions({'match': logits}, nobody), {})['auc'] == 0.5
    with pytest.raises(UserError, match='logits of 3 classes; it takes two'):
        evaluator.predictions({'match': np.zeros((4, 3))}, batch)


def test_examples_of_a_group_count_as_one():
    rng = np.random.default_rng(0)
    match = rng.integers(0, 2, 50)
    logits = np.stack([np.zeros(50), match + rng.standard_normal(50)], axis=1)
    batch = {'match': np.repeat(match, 4), 'kind': np.repeat(np.arange(50), 4)}

    def found(evaluator, logits, batch):
        return evaluator.metrics(evaluator.predictions({'match': logits}, batch), {})

    grouped, alone = (found(MatchAuc(group=group), np.repeat(logits, 4, axis=0), batch) for group in ('kind', ''))
    once = found(MatchAuc(), logits, {'match': match})
    assert grouped['auc'] == alone['auc'] == pytest.approx(once['auc'])
    assert grouped['auc_low'] == pytest.approx(once['auc_low']) and grouped['auc_low'] < alone['auc_low'] < once['auc']
    with pytest.raises(UserError, match="no field of the batch 'kin'; did you mean 'kind'"):
        MatchAuc(group='kin').predictions({'match': np.repeat(logits, 4, axis=0)}, batch)


def test_retrieval_by_score_against_sorting():
    rng = np.random.default_rng(0)
    scores, group = rng.standard_normal((30, 30)).astype(np.float32), rng.integers(0, 9, 30)
    present = np.arange(30) % 6 != 0
    evaluator = MatchRetrieval(group='thing', ks=(1, 5))
    kept = evaluator.predictions({}, {'thing': group})
    found = evaluator.metrics(kept | {'scores': scores, 'present': present}, {})
    of, scores = group[present], scores[present][:, present]
    for name, way in (('image_to_text', scores), ('text_to_image', scores.T)):
        order = np.argsort(-way, axis=1)
        for k in (1, 5):
            expected = np.mean([of[i] in of[order[i, :k]] for i in range(25)])
            assert found[f'recall@{k}/{name}'] == pytest.approx(expected)
    assert 0 < found['chance@1/text_to_image'] < found['chance@5/text_to_image'] < 1
    with pytest.raises(UserError, match="no field of the batch 'thin'; did you mean 'thing'"):
        MatchRetrieval(group='thin').predictions({}, {'thing': group})
    with pytest.raises(UserError, match="no output of the model 'match'"):
        evaluator.of_pairs({'answer': np.zeros((2, 2))})
