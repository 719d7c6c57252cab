"""The share of pairs that attention kernels go through, against masks written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.scale import prefix_lm
from mmjax.nn.masks import attention_mask
from mmjax.nn.splash import BLOCK, padded_length, read_share
from mmjax.plan.attended import masks_of, share_of
from mmjax.sharding import MeshShape
from mmjax.sharding.candidates import abstract
from mmjax.train.prepare import example, shapes_of_batch
from mmjax.train.state import abstract_state
from mmjax.types import Tokens, concatenate
from tests.train import toy


def of(causal, segments=None):
    n = len(causal)
    segments = None if segments is None else jnp.array([segments])
    return Tokens.of(jnp.zeros((1, n, 0)), jnp.ones((1, n), bool), causal=jnp.array([causal]), segments=segments)


def blocks(tokens, parts):
    """The largest share of blocks with a pair, by the rows of each device."""
    mask = np.asarray(attention_mask(tokens, tokens))[0]
    shares = []
    for part in np.split(mask, parts):
        starts = itertools.product(range(0, len(part), BLOCK), range(0, part.shape[1], BLOCK))
        shares.append(np.mean([part[i : i + BLOCK, j : j + BLOCK].any() for i, j in starts]))
    return max(shares)


@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize(
    'tokens',
    [
        of([0] * 2048),
        of([1] * 2048),
        of([0] * 1100 + [1] * 948),
        of([1] * 2048, segments=[1] * 1024 + [2] * 1024),
        of([0] * 2048, segments=[1] * 512 + [2] * 1536),
    ],
    ids=['both ways', 'causal', 'prefix', 'packed', 'packed both ways'],
)
def test_blocks_that_are_read(tokens, parts):
    assert read_share(tokens, parts=parts) == pytest.approx(blocks(tokens, parts))


def test_each_kernel_has_the_share_of_its_tokens():
    experiment = prefix_lm.b8()
    mesh = abstract(MeshShape(data=1), 1)
    params = abstract_state(experiment, shapes_of_batch(experiment), mesh).params
    share = share_of(experiment, params, mesh=mesh)
    assert share(1024, 1024) == 1  # the tower's
    # 1,024 + 384 are read by all: three blocks of keys of eight; behind them each block reads those before it.
    assert share(4096, 4096) == pytest.approx((3 * 3 + 4 + 5 + 6 + 7 + 8) / 64)
    assert share(4096, 1024) == 1  # of nothing that is known
    # Of four devices along the length the last reads most, the blocks 0 to 6 and 0 to 7; the mean is no one's.
    cut = abstract(MeshShape(data=1, sequence=4), 4)
    assert share_of(experiment, params, mesh=cut)(1024, 4096) == pytest.approx((7 + 8) / 16)


def test_masks_need_no_parameters():
    experiment = toy.experiment(batch_size=8)
    params = abstract_state(experiment, shapes_of_batch(experiment), abstract(MeshShape(data=1), 1)).params
    batch = {name: jnp.asarray(x) for name, x in example(experiment).items()}
    found = masks_of(experiment, params, batch)
    real = jax.jit(lambda: experiment.model.init(jax.random.key(0), batch))()
    encoded = experiment.model.apply(real, batch, method='encode')
    assert found.keys() == encoded.keys()
    for name, tokens in encoded.items():
        np.testing.assert_array_equal(attention_mask(tokens, tokens), attention_mask(found[name], found[name]))
    assert concatenate(found).mask.shape[1] == sum(x.mask.shape[1] for x in encoded.values())


def test_whole_blocks():
    assert [padded_length(n) for n in (100, 1000, 4096)] == [128, 1024, 4096]
