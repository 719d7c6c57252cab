"""What a fusion design costs: counted in its traced program, so that a new design needs no formula of its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from mmjax.nn.flops import count_flops
from mmjax.types import Tokens

if TYPE_CHECKING:
    from mmjax.fusion.base import Fusion


@dataclass(frozen=True)
class Cost:
    """parameters: learned numbers. macs: multiply-adds of the matrix products and convolutions of a forward pass.
    activation_bytes: of what the forward pass keeps for the backward pass, parameters not counted.

    The last is an estimate: it is what differentiation asks for, before the compiler fuses, recomputes and reuses. For
    the designs of this package it is 0.86 to 1.49 times the compiler's temporary memory, median 1.33
    (`scripts/bench_activations`, experiments/bench/activations.json); of `Routed` 0.47, since on the CPU, where that is
    measured, a product by groups is made one with every group, which macs do not count either.
    """

    parameters: int
    macs: int
    activation_bytes: int


def cost_of(fusion: 'Fusion', lengths: Mapping[str, int], *, width: int, batch: int = 1) -> Cost:
    """The cost on `batch` rows of `lengths[m]` tokens of `width` numbers in float32, from a trace: nothing runs."""

    mods = {
        name: Tokens.of(jnp.zeros((batch, length, width)), jnp.ones((batch, length), bool))
        for name, length in lengths.items()
    }
    variables = jax.eval_shape(lambda mods: fusion.init(jax.random.key(0), mods, train=False), mods)

    def forward(variables: Any, values: Mapping[str, Any]) -> list[Any]:
        fused = fusion.apply(variables, {name: mods[name].replace(values=x) for name, x in values.items()}, train=False)
        return [x.values for x in fused.readable().values()]

    def kept(variables: Any, values: Mapping[str, Any]) -> Any:
        return jax.vjp(forward, variables, values)[1]

    values = {name: x.values for name, x in mods.items()}
    learned = jax.tree.leaves(variables)
    program = jax.make_jaxpr(kept)(variables, values).jaxpr
    parameters = set(program.invars[: len(learned)])
    activations = {x for x in program.outvars if isinstance(x, Var) and x not in parameters}
    return Cost(
        parameters=sum(math.prod(x.shape) for x in learned),
        macs=count_flops(forward, variables, values) // 2,
        activation_bytes=sum(math.prod(x.aval.shape) * x.aval.dtype.itemsize for x in activations),
    )
