"""Who reads whom, by the Jacobian, against what every design says of itself in `flow`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fusion.designs import PAIR, build, each_design, most, outputs

pytestmark = pytest.mark.usefixtures('quick_compile')


@functools.cache
def compiled_pushforward(module):
    """(params, mods, tangents) -> the directional derivative of every output, by name."""

    def values_of(params, mods, values):
        mods = {name: x.replace(values=values[name]) for name, x in mods.items()}
        return {name: y.values for name, y in outputs(module.apply(params, mods, train=False)).items()}

    def push(params, mods, tangents):
        values = {name: x.values for name, x in mods.items()}
        return jax.jvp(functools.partial(values_of, params, mods), (values,), (tangents,))[1]

    return jax.jit(push)


def read_pairs(module, params, mods):
    """The pairs (reader, read) whose Jacobian is not exactly zero, measured on row 0, in which everything is real."""
    pairs = set()
    for read in mods:
        rng = np.random.default_rng(1)
        tangents = {name: jnp.zeros_like(x.values) for name, x in mods.items()}
        tangents[read] = jnp.asarray(rng.standard_normal(mods[read].values.shape), jnp.float32)
        for reader, tangent in compiled_pushforward(module)(params, mods, tangents).items():
            if reader != read and tangent[0].any():
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
