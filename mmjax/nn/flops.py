"""How many floating-point operations a program needs: counted in it, not estimated from the sizes of its parts."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """2 x multiply-adds of the matrix products and convolutions that `function` traces to, a scan's times its length.

    Element-wise work is left out, as is usual for model FLOPs (Chowdhery et al. 2022, appendix B). Both branches of a
    condition count; a product by groups counts each row once; the body of a `while` of unknown length counts once.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == 'dot_general':
            (contracted, _), _ = params['dimension_numbers']
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif name == 'ragged_dot_general':
            total += _ragged(equation)
        elif name == 'conv_general_dilated':
            total += _convolution(equation)
        else:
            times = params.get('length', 1) if name == 'scan' else 1
            total += times * sum(_count(inner) for inner in _inner(params))
    return total


def _ragged(equation: Any) -> int:
    """2 x its multiply-adds: each row meets the matrix of its own group alone, whatever the backend makes of it."""
    numbers = equation.params['ragged_dot_dimension_numbers']
    (contracted, _), _ = numbers.dot_dimension_numbers
    shape, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    total = 2 * math.prod(out) * math.prod(shape[axis] for axis in contracted)
    summed = set(numbers.lhs_ragged_dimensions) <= set(contracted)  # a result a group, each from its rows: a gradient
    return total // equation.invars[2].aval.shape[-1] if summed else total


def _convolution(equation: Any) -> int:
    """2 x its multiply-adds; those with the padding are none."""
    params, (image, kernel) = equation.params, (x.aval.shape for x in equation.invars)
    numbers, out = params['dimension_numbers'], equation.outvars[0].aval.shape
    outputs, inputs = kernel[numbers.rhs_spec[0]], kernel[numbers.rhs_spec[1]]
    total = 2 * out[numbers.out_spec[0]] * outputs * inputs
    for i, (low, _) in enumerate(params['padding']):
        size, taps = image[numbers.lhs_spec[2 + i]], kernel[numbers.rhs_spec[2 + i]]
        spread = params['lhs_dilation'][i]  # of a transposed convolution: only each `spread`-th place holds a number
        starts = np.arange(out[numbers.out_spec[2 + i]]) * params['window_strides'][i] - low
        places = starts[:, None] + np.arange(taps) * params['rhs_dilation'][i]
        total *= int(((places >= 0) & (places <= (size - 1) * spread) & (places % spread == 0)).sum())
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    """The programs inside an equation: of a scan, a call, the branches of a condition."""
    values = [v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [getattr(v, 'jaxpr', v) for v in values if hasattr(v, 'jaxpr') or hasattr(v, 'eqns')]
