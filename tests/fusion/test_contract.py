"""What every fusion design must keep, for all of them that the package has: a new one is tested by being there.

Masks, order, absence, examples that share a batch or a row, recomputation, precision. Who reads whom is in
test_flow.py, gates that start shut are in test_designs.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.fusion.bilinear import FactorizedBilinear, Mutan
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.concat import Concat
from mmjax.fusion.cross import CrossAttention
from mmjax.fusion.early import Early
from mmjax.fusion.film import Film
from mmjax.fusion.gated import GatedCrossAttention
from mmjax.fusion.graph import Graph
from mmjax.fusion.grid import Grid
from mmjax.fusion.interaction import ScalarInteraction
from mmjax.fusion.mid import Mid
from mmjax.fusion.pairwise import Pairwise
from mmjax.fusion.pooled import Pooled
from mmjax.fusion.relation import Relation
from mmjax.fusion.resampler import Resampler
from mmjax.fusion.routed import Routed
from mmjax.fusion.weighted import GatedUnit
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.train.passes import cast
from mmjax.types import Tokens
from tests.fusion.designs import (
    BATCH,
    LENGTHS,
    PAIR,
    WIDTH,
    compiled_forward,
    designs,
    each_case,
    each_design,
    most,
    outputs,
)

# Designs with parameters for a fixed number of modalities: one can be absent, but not left out.
FIXED_MODALITIES = {
    Concat,
    CrossAttention,
    FactorizedBilinear,
    GatedCrossAttention,
    GatedUnit,
    Grid,
    Mutan,
    Pairwise,
    ScalarInteraction,
}
# Designs that summarise a row as a whole, so that a row can hold one example only.
ONE_EXAMPLE_A_ROW = {Bottleneck, Film, Graph, Grid, Pairwise, Relation, Resampler, ScalarInteraction}
# Programs of gradients compile long: fewer operations in them, and no towers that are those of `Late`.
LEAN = {'fusion_layer': 0, 'block': Block(attention=Attention(heads=2, bias=False), mlp=Mlp(activation='relu'))}
# Designs whose streams are not the tokens that entered but as many as they say.
OWN_LENGTH = {Resampler: 'num_tokens'}


def with_noise(tokens, *, where, seed=9):
    """Other values where `where` [b n] says so."""
    noise = 5 * np.random.default_rng(seed).standard_normal(tokens.values.shape)
    return tokens.replace(values=jnp.where(where[:, :, None], jnp.asarray(noise, jnp.float32), tokens.values))


def absent(mods, name):
    return mods | {name: mods[name].replace(mask=jnp.zeros_like(mods[name].mask))}


def real(fused, rows: slice | list[int] = slice(None)):
    """Values of real tokens only, by name."""
    return {name: np.asarray(x.values)[rows][np.asarray(x.mask)[rows]] for name, x in outputs(fused).items()}


def assert_same(a, b, *, atol=0.0):
    """Equal bit for bit, or to a tolerance."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=atol, err_msg=name)


@functools.cache
def compiled_gradient(module):
    """(params, mods) -> gradients, by parameters and by values, of a random functional of all real outputs; outputs."""

    def functional(params, values, mods):
        mods = {name: x.replace(values=values[name]) for name, x in mods.items()}
        fused, total = module.apply(params, mods, train=False), 0.0
        for i, (_, y) in enumerate(sorted(outputs(fused).items())):
            weight = jnp.asarray(np.random.default_rng(i).standard_normal(y.values.shape), jnp.float32)
            total += (y.values * weight * y.mask[:, :, None]).sum()
        return total, fused

    gradient = jax.jit(jax.grad(functional, argnums=(0, 1), has_aux=True))
    return lambda params, mods: gradient(params, {name: x.values for name, x in mods.items()}, mods)


def test_every_design_is_found():
    assert {'Early', 'Late', 'Concat', 'Bottleneck', 'Coattention', 'Isolated'} <= {cls.__name__ for cls in designs()}


@each_case
def test_streams_keep_shape_mask_and_dtype(case, design, names):
    module, params, mods = case(design, names)
    fused = jax.eval_shape(lambda: module.apply(params, mods, train=False))
    assert fused.streams.keys() == set(names)
    for name, x in fused.streams.items():
        length = getattr(module, OWN_LENGTH[design]) if design in OWN_LENGTH else LENGTHS[name]
        assert (x.values.shape, x.values.dtype, x.mask.dtype) == ((BATCH, length, WIDTH), jnp.float32, jnp.bool_)
    if fused.shared is not None:
        assert fused.shared.values.dtype == jnp.float32 and fused.shared.values.shape[:2] == fused.shared.mask.shape


@pytest.mark.short
@each_design
def test_padding_changes_nothing(case, design):
    names = most(design)
    module, params, mods = case(design, names)
    forward = compiled_forward(module)
    plain = forward(params, mods)
    for name in names:
        kept = mods[name].present[:, None] if design in OWN_LENGTH else mods[name].mask
        np.testing.assert_array_equal(plain.streams[name].mask, np.broadcast_to(kept, plain.streams[name].mask.shape))
    noisy = forward(params, {name: with_noise(x, where=~x.mask) for name, x in mods.items()})
    assert_same(real(noisy), real(plain))


@each_design
def test_order_of_the_dict_changes_nothing(case, design):
    everything = most(design)
    module, params, mods = case(design, everything)

    def program(names):  # ordered in here, since JAX sorts the dicts that it is given
        return str(
            jax.make_jaxpr(lambda mods: module.apply(params, {name: mods[name] for name in names}, train=False))(mods)
        )

    assert program(everything) == program(tuple(reversed(everything)))


@each_design
def test_an_absent_modality_gives_finite_outputs_and_gradients(case, design):
    module, params, mods = case(design, PAIR, **LEAN)
    for gone in PAIR:
        without = absent(mods, gone)
        (by_params, by_values), fused = compiled_gradient(module)(params, without)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((by_params, by_values, fused)))
        assert not by_values[gone].any()
        assert all(by_values[name][0].any() for name in PAIR if name != gone)
    nothing = functools.reduce(absent, PAIR, mods)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(compiled_gradient(module)(params, nothing)))


@each_design
def test_an_absent_modality_is_as_if_left_out(case, design):
    names = most(design)
    module, params, mods = case(design, names)
    gone = names[1]
    masked = real(compiled_forward(module)(params, absent(mods, gone)))
    if design in FIXED_MODALITIES:
        noisy = mods | {gone: with_noise(mods[gone], where=jnp.ones_like(mods[gone].mask))}
        left_out = real(compiled_forward(module)(params, absent(noisy, gone)))
    else:
        left_out = real(compiled_forward(module)(params, {name: x for name, x in mods.items() if name != gone}))
        del masked[gone]
    assert_same(masked, left_out, atol=2e-5)


@each_design
def test_examples_of_a_batch_do_not_see_one_another(case, design):
    module, params, mods = case(design, most(design))
    forward, rows = compiled_forward(module), [0, 2]
    only_row_1 = jnp.arange(BATCH)[:, None] == 1
    changed = {name: with_noise(x, where=only_row_1 & jnp.ones_like(x.mask)) for name, x in mods.items()}
    changed = {name: x.replace(mask=x.mask.at[1, 0].set(False)) for name, x in changed.items()}
    assert_same(real(forward(params, changed), rows), real(forward(params, mods), rows))


@pytest.mark.parametrize(
    'design',
    [cls for cls in designs() if cls not in ONE_EXAMPLE_A_ROW and not issubclass(cls, Pooled)],
    ids=lambda cls: cls.__name__,
)
def test_examples_of_a_row_do_not_see_one_another(case, design):
    names = most(design)
    module, params, _ = case(design, names)
    rng = np.random.default_rng(3)
    apart = {
        name: Tokens.of(
            jnp.asarray(rng.standard_normal((BATCH, LENGTHS[name], WIDTH)), jnp.float32),
            jnp.ones((BATCH, LENGTHS[name]), bool),
        )
        for name in names
    }

    def pack(x):  # [b n …] -> [1 bn …]
        return jax.tree.map(lambda leaf: leaf.reshape(1, -1, *leaf.shape[2:]), x)

    packed = {
        name: pack(x).replace(segments=jnp.repeat(jnp.arange(BATCH, dtype=jnp.int32), LENGTHS[name])[None])
        for name, x in apart.items()
    }
    together = compiled_forward(module)(params, packed)
    for name, x in compiled_forward(module)(params, apart).streams.items():
        np.testing.assert_allclose(together.streams[name].values, pack(x).values, atol=2e-5)
        np.testing.assert_array_equal(together.streams[name].segments, packed[name].segments)


@each_design
def test_remat_and_unroll_reach_the_layers(case, design):
    if not hasattr(design, 'remat'):
        pytest.skip('it has no stack of layers')

    module, params, mods = case(design, PAIR, depth=3)

    def program(module):
        return str(jax.make_jaxpr(lambda mods: module.apply(params, mods, train=False))(mods))

    plain, changed = program(module), program(module.clone(remat='full', unroll=2))
    assert 'remat' in changed and 'remat' not in plain
    assert 'unroll=2' in changed and 'unroll=2' not in plain


# All layers are repeated by one function, which the test above finds in each design: here are carries of all kinds.
@pytest.mark.parametrize('design', [Bottleneck, Early, Film, Mid, Routed], ids=lambda cls: cls.__name__)
def test_recomputation_changes_no_number(case, design):
    module, params, mods = case(design, PAIR, **LEAN)
    plain, again = (compiled_gradient(m)(params, mods) for m in (module, module.clone(remat='full')))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * max(1.0, np.abs(a).max()))


@each_design
def test_bfloat16_is_near_float32(case, design):
    """Everything cast, as the train step does it: the stated tolerance is 5 % of the scale of an output."""
    module, params, mods = case(design, most(design))
    exact = compiled_forward(module)(params, mods)
    rounded = compiled_forward(module)(cast(params, 'bfloat16'), cast(mods, 'bfloat16'))
    for name, x in outputs(rounded).items():
        assert x.values.dtype == jnp.bfloat16, name
        near, true = np.asarray(x.values, np.float32)[x.mask], np.asarray(outputs(exact)[name].values)[x.mask]
        assert np.isfinite(near).all()
        np.testing.assert_allclose(near, true, rtol=0, atol=0.05 * np.abs(true).max(), err_msg=name)
