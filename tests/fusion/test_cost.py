"""What a design says that it costs, against counting by hand and against the compiler."""

import jax
import jax.numpy as jnp
import pytest

from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.coattention import Coattention
from mmjax.fusion.early import Early
from mmjax.fusion.experts import Experts, Multiway
from mmjax.fusion.late import Late
from mmjax.fusion.mid import Mid
from mmjax.fusion.routed import Routed
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.nn.norm import NoNorm
from mmjax.types import Tokens
from tests.fusion.designs import LENGTHS, build, each_design, most

N, D, L = {'image': 196, 'text': 32}, 768, 12


def block(n):
    """Multiply-adds of a transformer block on n tokens: projections and MLP, scores and values."""
    return 12 * n * D**2 + 2 * n**2 * D


def cross(a, b):
    """The same of attention from a queries to b keys."""
    return 2 * a * D**2 + 2 * b * D**2 + 2 * a * b * D


both = sum(N.values())
queries_only = sum(2 * n * D**2 + 2 * both * D**2 + 2 * n * both * D + 8 * n * D**2 for n in N.values())
FORMULAS = {
    'late': (Late(depth=L), L * sum(map(block, N.values())), 20.09),
    'early': (Early(depth=L), L * block(both), 20.32),
    'bottleneck': (
        Bottleneck(depth=L, fusion_layer=8, num_tokens=4),
        8 * sum(map(block, N.values())) + 4 * sum(block(n + 4) for n in N.values()),
        20.33,
    ),
    'mid': (Mid(depth=L, fusion_layer=8), 8 * sum(map(block, N.values())) + 4 * queries_only, 21.24),
    'coattention': (Coattention(depth=6), 6 * (2 * cross(196, 32) + sum(map(block, N.values()))), 13.39),
    'experts': (Experts(depth=L), L * block(both), 20.32),
    'multiway': (Multiway(depth=L), L * block(both), 20.32),
    # The MLPs of two experts a token, and the router; six further experts cost nothing.
    'routed': (Routed(depth=L), L * (block(both) + 8 * both * D**2 + 8 * both * D), 33.24),
}


@pytest.mark.parametrize('name', FORMULAS)
def test_multiply_adds_are_those_of_the_formula(name):
    """The formulas of the designs' papers at ViT-B's size, and their values in 10^9 as a second check of the hand."""
    design, formula, giga = FORMULAS[name]
    found = design.cost(N, width=D).macs
    assert found == pytest.approx(formula, rel=1e-6)
    # Published tables count co-attention without the keys' projections of one direction: within 2 %.
    assert found / 1e9 == pytest.approx(giga, rel=0.02 if name == 'coattention' else 5e-4)


@pytest.mark.parametrize(
    ('design', 'blocks'), [(Early, L), (Late, 2 * L), (Experts, 2 * L)], ids=['early', 'late', 'experts']
)
def test_parameters_are_those_of_the_formula(design, blocks):
    of_block = 12 * D**2 + (4 + 4 + 1) * D + 2 * 2 * D  # matrices; biases; two norms
    entry = 2 * 2 * D
    types = 2 * D if design is Early else 0
    assert design(depth=L).cost(N, width=D).parameters == blocks * of_block + entry + types


@each_design
def test_costs_are_those_of_the_compiler(design):
    """Wide enough that element-wise work, which the compiler counts and the field does not, is below 5 %."""
    width = 256
    block, names = Block(attention=Attention(heads=2), mlp=Mlp(activation='relu')), most(design)
    # A product by groups is, on the CPU, one with the matrix of every group: with one expert they are the same. That
    # those that are not chosen cost nothing is in the formulas above.
    module = build(design, block=block, depth=2, experts=1, top_k=1)
    module = module.clone(entry_norm=NoNorm(), **({'unroll': 3} if hasattr(module, 'unroll') else {}))
    lengths = {name: LENGTHS[name] for name in names}
    mods = {n: Tokens.of(jnp.zeros((2, k, width)), jnp.ones((2, k), bool)) for n, k in lengths.items()}
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), mods, train=False))

    def forward(variables, mods):
        return [x.values for x in module.apply(variables, mods, train=False).readable().values()]

    cost = module.cost(lengths, width=width, batch=2)
    compiler = jax.jit(forward).lower(variables, mods).cost_analysis()['flops']
    assert cost.macs == pytest.approx(compiler / 2, rel=0.05)
    assert cost.parameters == sum(x.size for x in jax.tree.leaves(variables))
    assert cost.activation_bytes > 4 * 2 * width * max(lengths.values())  # at least one layer's input


def test_remat_keeps_less():
    plain, full = (Early(depth=4, remat=remat).cost(N, width=64).activation_bytes for remat in ('none', 'full'))
    assert full < plain / 3
    # All that the full policy keeps is the input of each layer (and of the entry norms).
    assert full >= 4 * both * 64 * 4
