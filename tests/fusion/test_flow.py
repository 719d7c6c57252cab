"""Who reads whom, by what changes when another does, against what every design says of itself in `flow`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.coattention import Coattention
from mmjax.fusion.cross import CrossAttention
from mmjax.fusion.early import Early
from mmjax.fusion.experts import Experts, Multiway
from mmjax.fusion.gated import GatedCrossAttention
from mmjax.fusion.mid import Mid
from tests.fusion.designs import (
    PAIR,
    TRIPLE,
    WIDTH,
    build,
    compiled_forward,
    each_design,
    make_tokens,
    most,
    outputs,
)


def read_pairs(module, params, mods):
    """The pairs (reader, read) where a number of the reader changes with the read one: row 0, all of which is real."""
    forward, pairs = compiled_forward(module), set()
    plain = outputs(forward(params, mods))
    for read, x in mods.items():
        noise = np.random.default_rng(1).standard_normal(x.values.shape)
        changed = forward(params, mods | {read: x.replace(values=x.values + jnp.asarray(noise, jnp.float32))})
        for reader, y in outputs(changed).items():
            if reader != read and (y.values[0] != plain[reader].values[0]).any():
                pairs.add((reader, read))
    return pairs


@each_design
def test_who_reads_whom_is_what_flow_says(case, design):
    names = most(design)
    module, params, mods = case(design, names)
    assert read_pairs(module, params, mods) == set(module.flow(names))


@each_design
def test_flow_starts_at_the_layer_that_it_says(case, design):
    starts = {pair: layer for pair, layer in build(design).flow(PAIR).items() if 'shared' not in pair}
    if build(design, depth=5).flow(PAIR) != build(design).flow(PAIR):
        pytest.skip('the exchange comes after all layers')
    for layer in set(starts.values()):
        for depth in (layer, layer + 1):  # cut before that layer, and after it
            module, params, mods = case(design, PAIR, depth=depth)
            started = {pair for pair, start in starts.items() if start < depth}
            assert read_pairs(module, params, mods) == set(module.flow(PAIR)) == started


@pytest.mark.parametrize(
    'design',
    [Bottleneck, Coattention, CrossAttention, Early, Experts, GatedCrossAttention, Mid, Multiway],
    ids=lambda cls: cls.__name__,
)
def test_a_token_reads_what_has_started_in_any_stream(case, design):
    """The first of the streams is causal, the second bidirectional, the third has a prefix of one token."""
    starts = {'audio': np.ones(5, int), 'image': np.zeros(4, int), 'text': np.array([0, 1, 1])}
    module, params, _ = case(design, TRIPLE)
    mods = {
        name: x.replace(causal=jnp.asarray(starts[name], jnp.int32)[None])
        for name, x in jax.tree.map(lambda x: x[:1], make_tokens(TRIPLE)).items()
    }
    forward, count = compiled_forward(module), {name: np.cumsum(x) for name, x in starts.items()}
    plain = forward(params, mods).streams
    for read, x in mods.items():
        for i in range(len(starts[read])):
            changed = forward(params, mods | {read: x.replace(values=x.values.at[0, i].add(1.0 + jnp.arange(WIDTH)))})
            for reader, y in changed.streams.items():
                reads = np.asarray(y.values != plain[reader].values).any(axis=(0, 2))
                allowed = count[read][i] <= count[reader]
                assert not (reads & ~allowed).any(), (reader, read, i)
                # What goes through the bottleneck's tokens is only what they may read: what is not causal.
                if (reader, read) in module.flow(TRIPLE) and design is not Bottleneck:
                    assert (reads == allowed).all(), (reader, read, i)
