"""How many floating-point operations a model needs: counted in its program, not estimated from its size."""

import math
from collections.abc import Callable
from typing import Any

import jax

from mmjax.experiment import Experiment
from mmjax.types import Shapes

# Dense bfloat16 FLOP/s of one device, by `jax.Device.device_kind`, from the vendors' data sheets.
PEAK_FLOPS = {
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5': 459e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'NVIDIA A100-SXM4-80GB': 312e12,
    'NVIDIA A100-SXM4-40GB': 312e12,
    'NVIDIA H100 80GB HBM3': 989e12,
}


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """2 x multiply-adds of the matrix products and convolutions that `function` traces to, a scan's times its length.

    Element-wise work is left out, as is usual for model FLOPs (Chowdhery et al. 2022, appendix B). Both branches of a
    condition count; the body of a `while` of unknown length counts once.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def train_flops(experiment: Experiment, params: Any, batch: Shapes) -> int:
    """Model FLOPs of one step on a batch: 3 x the forward pass (the backward pass takes two products for each one).

    Recomputation (remat) does not count: it is no work that the model needs.
    """
    return 3 * count_flops(lambda p, b: experiment.model.apply({'params': p}, b, train=False), params, batch)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == 'dot_general':
            (contracted, _), _ = params['dimension_numbers']
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif name == 'conv_general_dilated':
            kernel = equation.invars[1].aval.shape
            outputs = params['dimension_numbers'].rhs_spec[0]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[outputs]
        else:
            times = params.get('length', 1) if name == 'scan' else 1
            total += times * sum(_count(inner) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation: of a scan, a call, the branches of a condition."""
    values = [v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [getattr(v, 'jaxpr', v) for v in values if hasattr(v, 'jaxpr') or hasattr(v, 'eqns')]
