"""Constraints on activations act where they stand, within scan and remat too: read from the compiled program.

Everything that goes in is whole on every device, so that what is cut was cut by the constraints. Linen's own did
nothing there, without a word.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mmjax import sharding
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block, Stack
from mmjax.nn.mlp import SwiGLU
from mmjax.nn.norm import RMSNorm
from mmjax.plan import hlo, rollup
from mmjax.sharding import MeshShape
from mmjax.types import Tokens

STACK = Stack(Block(attention=Attention(heads=4), mlp=SwiGLU(), norm=RMSNorm()), depth=3, remat='full')
X = Tokens.of(jnp.zeros((8, 16, 24)), jnp.ones((8, 16), bool))


def products(mesh):
    """FLOPs of matrix products of one device, forward and backward."""
    params = nn.meta.unbox(jax.eval_shape(lambda: STACK.init(jax.random.key(0), X, train=True)))
    whole = sharding.replicated(mesh)
    params, x = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), (params, X))
    with jax.set_mesh(mesh):
        loss = jax.grad(lambda params, x: (STACK.apply(params, x, train=True).values ** 2).sum())
        compiled = jax.jit(loss, out_shardings=whole).lower(params, x).compile()
    told = rollup.rolled_up(hlo.parse(compiled.as_text()))
    assert not told.unresolved
    return told.dot_flops


@pytest.fixture(scope='module')
def alone():
    return products(MeshShape(data=1).build(jax.devices()[:1]))


@pytest.mark.parametrize(
    'shape',
    [
        MeshShape(),
        MeshShape(data=1, fsdp=8),
        MeshShape(data=1, fsdp=2, tensor=4),
        MeshShape(data=1, fsdp=2, sequence=4),
    ],
    ids=['data', 'fsdp', 'tensor', 'sequence'],
)
def test_each_of_eight_devices_does_an_eighth(shape, alone):
    assert products(shape.build()) <= alone / 8


def test_without_them_each_does_all(alone, monkeypatch):
    """So the test above fails where constraints do nothing."""
    for module in ('attention', 'block', 'mlp'):
        monkeypatch.setattr(f'mmjax.nn.{module}.constrain', lambda x, *axes: x)
    assert products(MeshShape().build()) == alone
