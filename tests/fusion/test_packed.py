"""Designs that say they keep apart the examples of a row: each stream is what it is without the neighbour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.types import Tokens
from tests.fusion.designs import PAIR, build, designs, make_tokens

PACKS = [cls for cls in designs() if cls.packs]


def packed(alone):
    """Rows 0 and 1 as one, without their padding; the first one's tokens are causal, as are those of the second."""
    rows = {}
    for name, x in alone.items():
        real = [np.flatnonzero(mask) for mask in np.asarray(x.mask[:2])]
        values = jnp.concatenate([x.values[row, at] for row, at in enumerate(real)])
        segments = np.concatenate([np.full(len(at), row) for row, at in enumerate(real, 1)])
        causal = jnp.concatenate([x.causal[row, at] for row, at in enumerate(real)])
        rows[name] = Tokens.of(
            values[None],
            jnp.ones((1, len(values)), bool),
            positions=jnp.asarray(np.concatenate(real), jnp.int32)[None],
            segments=jnp.asarray(segments, jnp.int32)[None],
            causal=causal[None],
        )
    return rows


@pytest.mark.usefixtures('quick_compile')
@pytest.mark.parametrize('design', PACKS, ids=lambda cls: cls.__name__)
def test_a_design_that_packs_keeps_examples_apart(design, random_parameters):
    module, alone = build(design), make_tokens(PAIR)
    alone['text'] = alone['text'].replace(causal=jnp.ones_like(alone['text'].causal))
    params, row = random_parameters(module, alone, train=False), packed(alone)

    def both(params):
        return [module.apply(params, mods, train=False).streams for mods in (alone, row)]

    apart, together = jax.jit(both)(params)
    for name, x in apart.items():
        start = 0
        for row in range(2):
            real = np.asarray(alone[name].mask[row])
            stop = start + real.sum()
            expected = np.asarray(x.values[row])[real]
            np.testing.assert_allclose(together[name].values[0, start:stop], expected, atol=2e-5)
            start = stop


def test_the_designs_that_pack_are_those_without_pooling():
    assert {cls.__name__ for cls in PACKS} == {
        'Early',
        'Isolated',
        'Late',
        'Mid',
        'Coattention',
        'GatedCrossAttention',
        'Experts',
        'Multiway',
        'Pairwise',
    }
