"""Soft targets against NumPy, class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.objectives.soft_targets import SoftTargets

LOGITS = np.random.default_rng(0).standard_normal((4, 6)) * 3
CANDIDATES = np.array([[2, 5, -1], [0, -1, -1], [-1, -1, -1], [5, 4, 3]])
SCORES = np.array([[1.0, 0.3, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, 0.0], [0.6, 0.6, 0.3]])
BATCH = {
    'answer/candidates': jnp.asarray(CANDIDATES, jnp.int32),
    'answer/scores': jnp.asarray(SCORES, jnp.float32),
    'weight': jnp.ones(4),
}


def by_hand():
    losses = []
    for logits, ids, scores in zip(LOGITS, CANDIDATES, SCORES, strict=True):
        wanted = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        p = 1 / (1 + np.exp(-logits))
        losses.append(
            sum(-wanted.get(j, 0) * np.log(p[j]) - (1 - wanted.get(j, 0)) * np.log(1 - p[j]) for j in range(6))
        )
    return losses


def test_against_each_class():
    loss = SoftTargets()({'answer': jnp.asarray(LOGITS, jnp.float32)}, BATCH)
    np.testing.assert_allclose(loss, by_hand(), rtol=1e-5)


def test_the_gradient_is_probability_less_score():
    def total(logits):
        return SoftTargets()({'answer': logits}, BATCH).sum()

    wanted = np.zeros((4, 6))
    for row, (ids, scores) in enumerate(zip(CANDIDATES, SCORES, strict=True)):
        wanted[row, ids[ids >= 0]] = scores[ids >= 0]
    found = jax.grad(total)(jnp.asarray(LOGITS, jnp.float32))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-LOGITS)) - wanted, atol=1e-5)


def test_rows_without_the_target_count_nothing():
    told = BATCH | {'answer/present': jnp.array([True, False, True, True])}
    np.testing.assert_array_equal(SoftTargets().weights(told), [1, 0, 1, 1])
    np.testing.assert_array_equal(SoftTargets().weights(BATCH), BATCH['weight'])


def test_what_is_missing_is_told():
    outputs = {'answer': jnp.asarray(LOGITS, jnp.float32)}
    with pytest.raises(UserError, match="no output of the model 'anwser'; did you mean 'answer'"):
        SoftTargets(output='anwser')(outputs, BATCH)
    with pytest.raises(UserError, match="no field of the batch 'kind/candidates'"):
        SoftTargets(target='kind')(outputs, BATCH)
