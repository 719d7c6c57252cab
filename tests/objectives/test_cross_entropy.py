"""Cross-entropy against SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mmjax.errors import UserError
from mmjax.objectives.cross_entropy import CrossEntropy

LOGITS = np.random.default_rng(0).standard_normal((6, 4)) * 3
TARGET = np.array([0, 3, 1, 2, 2, 0])
OUTPUTS, BATCH = {'answer': jnp.asarray(LOGITS, jnp.float32)}, {'answer': jnp.asarray(TARGET, jnp.int32)}


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing):
    wanted = (1 - smoothing) * np.eye(4)[TARGET] + smoothing / 4
    expected = -(wanted * log_softmax(LOGITS, axis=-1)).sum(axis=-1)
    found = CrossEntropy(smoothing=smoothing)(OUTPUTS, BATCH)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_large_logits_stay_finite():
    loss = CrossEntropy()({'answer': jnp.asarray([[1e4, -1e4]])}, {'answer': jnp.asarray([1])})
    np.testing.assert_allclose(loss, [2e4])


def test_missing_output_and_field():
    with pytest.raises(UserError, match="no output of the model 'anwser'; did you mean 'answer'"):
        CrossEntropy(output='anwser')(OUTPUTS, BATCH)
    with pytest.raises(UserError, match=r"no field of the batch 'label' \(there are \['answer'\]\)"):
        CrossEntropy(target='label')(OUTPUTS, BATCH)


def test_an_example_without_the_label_counts_nothing():
    weight = jnp.asarray([1.0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(CrossEntropy().weights(BATCH | {'weight': weight}), weight)
    present = {'answer/present': jnp.arange(6) % 2 == 0}
    np.testing.assert_array_equal(CrossEntropy().weights(BATCH | present | {'weight': weight}), [1, 0, 1, 0, 1, 0])
