"""Routed experts in a model: what the router tells reaches an objective, and the objective the router."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax.decoders.aux import Aux
from mmjax.encoders.vectors import VectorEncoder
from mmjax.fusion.routed import Routed
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.objectives.routing import ExpertUse

MODEL = Model(
    encoders={'points': VectorEncoder(width=16), 'words': VectorEncoder(width=16)},
    fusion=Routed(depth=1, experts=4, block=Block(attention=Attention(heads=2), mlp=Mlp(ratio=1.0))),
    decoders={'router': Aux()},
)
BATCH = {
    'points': jnp.asarray(np.random.default_rng(0).standard_normal((8, 5, 3)), jnp.float32),
    'words': jnp.asarray(np.random.default_rng(1).standard_normal((8, 2, 3)), jnp.float32),
    'words/present': jnp.arange(8) % 2 == 0,
    'weight': jnp.ones(8),
}


def test_descending_the_objective_brings_idle_experts_into_use():
    """From a router that gives all to two of four experts: choices move, by the router's gradient alone."""
    params = nn.meta.unbox(jax.jit(lambda: MODEL.init(jax.random.key(0), BATCH))())['params']
    mixture = params['fusion']['layers']['mixture']
    towards = jnp.asarray([1.0, 1.0, -1.0, -1.0]) * jnp.sign(jnp.arange(16) - 7.5)[:, None]
    params['fusion']['layers']['norm_mlp']['bias'] = 0.3 * jnp.sign(jnp.arange(16) - 7.5)[None]
    mixture['router'] = mixture['router'] + towards
    objective = dataclasses.replace(ExpertUse(), balance=1.0, z=0.0, local=0.0, least=4.0)

    @jax.jit
    def step(router):
        def loss(router):
            layers = params['fusion']['layers'] | {'mixture': mixture | {'router': router}}
            own = params | {'fusion': params['fusion'] | {'layers': layers}}
            told = MODEL.apply({'params': own}, BATCH)['router']
            return objective({'router': told}, BATCH).mean(), told

        (value, told), gradient = jax.value_and_grad(loss, has_aux=True)(router)
        return router - 2.0 * gradient, value, told[:, 0, :, 0].sum(axis=0)

    router, first, before = step(mixture['router'])
    for _ in range(100):
        router, last, after = step(router)
    np.testing.assert_array_equal(before.sum(axis=1), [2 * 8 * 5, 2 * 4 * 2])  # two experts a real token
    np.testing.assert_array_equal(after.sum(axis=1), before.sum(axis=1))
    # Of 96 choices, each expert would have 24 if all had as many.
    assert before.sum(axis=0).min() < 5 and after.sum(axis=0).min() > 10
    assert last < first - 0.3
