"""Designs that say they keep apart the examples of a row: each stream is what it is without the neighbour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.types import Tokens
from tests.fusion.designs import WIDTH, build, designs

PACKS = [cls for cls in designs() if cls.packs is True]


LENGTHS = {'image': (3, 2), 'text': (2, 4)}  # tokens of two examples


def rows():
    """Two examples, each alone in its row, filled up, and both in a third row. Text is causal."""
    rng, tokens = np.random.default_rng(0), {}
    for name, (a, b) in LENGTHS.items():
        n = a + b
        values, segments = np.zeros((3, n, WIDTH), np.float32), np.zeros((3, n), np.int32)
        values[2], segments[2] = rng.standard_normal((n, WIDTH)), [1] * a + [2] * b
        values[0, :a], segments[0, :a] = values[2, :a], 1
        values[1, :b], segments[1, :b] = values[2, a:], 1
        positions = np.stack([np.arange(n), np.arange(n), [*range(a), *range(b)]])
        tokens[name] = Tokens.of(
            jnp.asarray(values),
            jnp.asarray(segments > 0),
            positions=jnp.asarray(positions, jnp.int32),
            segments=jnp.asarray(segments),
            causal=jnp.full((3, n), int(name == 'text')),
        )
    return tokens


@pytest.mark.parametrize('design', PACKS, ids=lambda cls: cls.__name__)
def test_a_design_that_packs_keeps_examples_apart(design, random_parameters):
    module, tokens = build(design), rows()
    params = random_parameters(module, tokens, train=False)
    fused = jax.jit(lambda params, tokens: module.apply(params, tokens, train=False))(params, tokens)
    for name, (a, b) in LENGTHS.items():
        first, second, both = np.asarray(fused.streams[name].values)
        np.testing.assert_allclose(both[:a], first[:a], atol=2e-5)
        np.testing.assert_allclose(both[a:], second[:b], atol=2e-5)


def test_the_designs_that_pack_are_those_without_pooling():
    assert {cls.__name__ for cls in PACKS} == {
        'Early',
        'Isolated',
        'Late',
        'Mid',
        'Coattention',
        'CrossAttention',
        'GatedCrossAttention',
        'Experts',
        'Multiway',
        'Pairwise',
        'Routed',
        'VisualEmbedding',
    }
