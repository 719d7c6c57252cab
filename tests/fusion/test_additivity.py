"""Which models are additive in their modalities (Hessel & Lee 2020); the parameters of the control; errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.decoders.classification import LogitSum, MaskedMean
from mmjax.errors import UserError
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.concat import Concat
from mmjax.fusion.early import Early
from mmjax.fusion.isolated import Isolated
from mmjax.fusion.late import Late
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.types import Tokens

BLOCK = Block(attention=Attention(heads=2))
EXAMPLES = 4


def empirical_additive_projection(scores):
    """scores [i j c] of every pairing of image i with text j -> the best additive approximation (section 3, eq. 2)."""
    result = np.empty_like(scores)
    n_i, n_j = scores.shape[:2]
    for i, j in itertools.product(range(n_i), range(n_j)):
        of_image = sum(scores[i, other] for other in range(n_j)) / n_j
        of_text = sum(scores[other, j] for other in range(n_i)) / n_i
        result[i, j] = of_image + of_text - scores.sum(axis=(0, 1)) / (n_i * n_j)
    return result


def examples():
    """Four images and four texts of different lengths; the last image and the first text are absent."""
    rng, mods = np.random.default_rng(0), {}
    for name, lengths in {'image': [4, 4, 2, 0], 'text': [0, 1, 2, 3]}.items():
        values = rng.standard_normal((EXAMPLES, max(lengths), 16))
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        mods[name] = Tokens.of(jnp.asarray(values, jnp.float32), jnp.asarray(mask))
    return mods


def scores_of_all_pairs(fusion, decoder, random_parameters):
    mods = examples()
    i, j = (x.ravel() for x in np.meshgrid(np.arange(EXAMPLES), np.arange(EXAMPLES), indexing='ij'))
    pairs = {name: jax.tree.map(lambda x, at=at: x[at], mods[name]) for name, at in (('image', i), ('text', j))}
    params = random_parameters(fusion, pairs, train=False)
    fused = jax.eval_shape(lambda: fusion.apply(params, pairs, train=False))
    of_decoder = random_parameters(decoder, {}, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), fused), train=False)

    @jax.jit
    def model(pairs):
        return decoder.apply(of_decoder, {}, fusion.apply(params, pairs, train=False), train=False)

    return np.asarray(model(pairs), np.float64).reshape(EXAMPLES, EXAMPLES, -1)


@pytest.mark.parametrize(
    ('fusion', 'decoder', 'additive'),
    [
        (Late(depth=1, block=BLOCK), LogitSum(classes=3), True),
        (Isolated(depth=1, block=BLOCK), LogitSum(classes=3), True),
        (Concat(hidden=()), LogitSum(classes=3, norm=NoNorm()), True),
        (Concat(hidden=()), MaskedMean(classes=3, norm=NoNorm()), True),
        (Concat(hidden=()), MaskedMean(classes=3), False),  # the norm of the whole lets one part scale the other
        (Concat(hidden=(16,)), MaskedMean(classes=3, norm=NoNorm()), False),
        (Early(depth=1, block=BLOCK), LogitSum(classes=3), False),
    ],
    ids=['late', 'isolated', 'concat-sum', 'concat-mean', 'concat-norm', 'concat-mlp', 'early'],
)
def test_additivity(fusion, decoder, additive, random_parameters):
    scores = scores_of_all_pairs(fusion, decoder, random_parameters)
    # Of those pairs in which both are there: an absent partner would make any model additive in part, and concat's
    # read-out is zero where nothing is there at all.
    scores = scores[:-1, 1:]
    missed = np.abs(scores - empirical_additive_projection(scores)).max() / scores.std()
    assert missed < 1e-5 if additive else missed > 1e-2


def test_isolated_has_the_parameters_of_early():
    mods = examples()
    early, isolated = (
        jax.eval_shape(lambda module=module: module.init(jax.random.key(0), mods, train=False))
        for module in (Early(depth=2, block=BLOCK), Isolated(depth=2, block=BLOCK))
    )
    assert jax.tree.structure(early) == jax.tree.structure(isolated)
    assert jax.tree.leaves(jax.tree.map(lambda x: (x.shape, x.dtype), early)) == jax.tree.leaves(
        jax.tree.map(lambda x: (x.shape, x.dtype), isolated)
    )


def test_no_modality():
    with pytest.raises(UserError, match='at least one'):
        Late().init(jax.random.key(0), {}, train=False)


def test_different_widths():
    mods = examples() | {'cls': Tokens.of(jnp.ones((EXAMPLES, 1, 8)), jnp.ones((EXAMPLES, 1), bool))}
    with pytest.raises(UserError, match="'cls': 8"):
        Early().init(jax.random.key(0), mods, train=False)


def test_fusion_layer_that_the_depth_does_not_have():
    with pytest.raises(UserError, match=r'fusion_layer: 3 .* 0\.\.2'):
        Bottleneck(depth=2, fusion_layer=3).init(jax.random.key(0), examples(), train=False)
