"""The likelihood of a text against SciPy, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mmjax.errors import UserError
from mmjax.objectives.next_token import NextToken
from mmjax.types import Deferred

TEXT = np.array([[5, 2, 3, 1, 0, 0], [4, 4, 1, 2, 3, 1], [6, 2, 2, 1, 0, 0], [6, 2, 2, 1, 0, 0]])
CAUSAL = np.array([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]])
PRESENT = np.array([True, True, True, False])
LEARNED = ((2, 3), (1, 2, 3, 4, 5), (), ())  # places of each row's own words
LOGITS = np.random.default_rng(0).standard_normal((4, 6, 7)) * 3


def batch(**fields):
    row = {'text': TEXT, 'text/causal': CAUSAL, 'text/present': PRESENT, 'weight': np.array([1.0, 1.0, 1.0, 1.0])}
    return {name: jnp.asarray(x) for name, x in (row | fields).items()}


def expected(row, places, smoothing=0.0):
    logs = log_softmax(LOGITS[row], axis=-1)
    wanted = [(1 - smoothing) * np.eye(7)[TEXT[row, t]] + smoothing / 7 for t in places]
    return [-(w * logs[t - 1]).sum() for t, w in zip(places, wanted, strict=True)]


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_each_row_is_the_mean_over_what_it_is_to_write(smoothing):
    found = NextToken(smoothing=smoothing)({'text': jnp.asarray(LOGITS)}, batch())
    means = [np.mean(expected(row, places, smoothing)) if places else 0 for row, places in enumerate(LEARNED)]
    np.testing.assert_allclose(found, means, rtol=1e-5)


def test_weights_make_it_an_average_over_tokens():
    objective, given = NextToken(), batch(weight=np.array([1.0, 0.5, 1.0, 1.0]))
    weights = objective.weights(given)
    np.testing.assert_allclose(weights, [2, 2.5, 0, 0])
    found = (objective({'text': jnp.asarray(LOGITS)}, given) * weights).sum() / weights.sum()
    losses = [expected(row, places) for row, places in enumerate(LEARNED)]
    np.testing.assert_allclose(found, (sum(losses[0]) + 0.5 * sum(losses[1])) / 4.5, rtol=1e-5)


def test_nobody_foresees_the_first_token_of_its_neighbour():
    """One packed row of two examples, of which the second has no prefix: nothing says that its first word comes."""
    packed = {
        'text': [[5, 2, 3, 4, 2, 1]],
        'text/causal': [[0, 1, 1, 1, 1, 1]],
        'text/segments': [[1, 1, 1, 2, 2, 2]],
        'weight': [1.0],
    }
    packed = {name: jnp.asarray(x) for name, x in packed.items()}
    np.testing.assert_allclose(NextToken().weights(packed), [4])
    slope = jax.grad(lambda x: NextToken()({'text': x}, packed).sum())(jnp.asarray(LOGITS[:1]))
    np.testing.assert_array_equal(np.asarray(slope).any(axis=-1)[0], [True, True, False, True, True, False])


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match=r"no field of the batch 'text/causal'.*PromptAnswer"):
        NextToken()({'text': jnp.asarray(LOGITS)}, {'text': jnp.asarray(TEXT), 'weight': jnp.ones(4)})
    with pytest.raises(UserError, match="no output of the model 'text'; did you mean 'texts'"):
        NextToken()({'texts': jnp.asarray(LOGITS)}, batch())


@pytest.mark.parametrize('bias', [True, False])
def test_deferred_logits_have_the_same_loss_and_gradients(bias):
    rng = np.random.default_rng(1)
    values, kernel, offset = (jnp.asarray(rng.standard_normal(n), jnp.float32) for n in ((4, 6, 5), (5, 7), 7))
    objective, given = NextToken(smoothing=0.1), batch()

    def whole(values, kernel, offset):
        return objective({'text': values @ kernel + (offset if bias else 0)}, given).sum()

    def parts(values, kernel, offset):
        return objective({'text': Deferred(values, kernel, offset if bias else None, parts=3)}, given).sum()

    one, two = (jax.value_and_grad(f, argnums=(0, 1, 2))(values, kernel, offset) for f in (whole, parts))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)
