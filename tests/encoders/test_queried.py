"""An attentional pooler around an encoder: as many tokens as queries, of what is there and nothing else."""

import jax.numpy as jnp
import numpy as np

from mmjax.encoders.queried import Queried
from mmjax.encoders.text import TokenEncoder
from mmjax.nn.attention import Attention
from mmjax.nn.norm import NoNorm
from mmjax.nn.positions import NoPositions

PRESENT = jnp.array([True, True, False])
IDS = jnp.array([[3, 4, 5, 0], [6, 0, 0, 0], [3, 4, 5, 2]])
INNER = TokenEncoder(vocabulary=7, width=8, depth=0, positions=NoPositions())
MODULE = Queried(INNER, queries=2, attention=Attention(heads=1), norm=NoNorm())


def test_queries_read_the_real_tokens(random_parameters):
    variables = random_parameters(MODULE, IDS, PRESENT, train=False)
    found, p = MODULE.apply(variables, IDS, PRESENT, train=False), variables['params']
    np.testing.assert_array_equal(found.mask, [[True] * 2, [True] * 2, [False] * 2])

    def linear(x, name):
        kernel, bias = (np.asarray(p['attend'][name][part]) for part in ('kernel', 'bias'))
        return x @ kernel.reshape(8, 8) + bias.reshape(-1)

    for row, count in enumerate((3, 1)):
        tokens = np.asarray(p['encoder']['embed']['embedding'])[IDS[row, :count]]
        scores = linear(np.asarray(p['seeds']), 'query') @ linear(tokens, 'key').T / np.sqrt(8)
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.values[row], linear(weights @ linear(tokens, 'value'), 'out'), atol=1e-5)
