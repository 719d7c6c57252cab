"""A model, always labelled so, of attention kernels: the compiler counts nothing of what a custom call does."""

import dataclasses
import math

from mmjax.nn.splash import BLOCK
from mmjax.plan.hlo import Array
from mmjax.plan.rollup import CustomCall, Rollup

LABEL = 'model'

# Matrix products of one attention kernel, each [n, k] x [k, m] or its like, by what its JAX name says that it is: the
# scores and their product with the values; backward, from scores that are made again, what they hand to dv, dp, dq, dk.
PRODUCTS = {
    'dkv_dq': 5,  # fused: scores, dp, dv, dk, dq
    'dkv': 4,  # scores, dp, dv, dk
    'dq': 3,  # scores, dp, dq
    'fwd': 2,
}


@dataclasses.dataclass(frozen=True)
class KernelTime:
    """Of all runs of one kernel. flops: dense, or what a causal mask leaves. label: that this is a model."""

    call: CustomCall
    part: str
    flops: int
    seconds: float
    label: str = LABEL


def attention(
    rollup: Rollup, *, causal: bool, peak_flops: float, fraction: float
) -> tuple[list[KernelTime], list[CustomCall]]:
    """Time of the attention kernels among the custom calls, and the custom calls that are none.

    Every query with every key; where the caller says that all masks are causal, without the blocks that they leave out.
    The seconds are those FLOPs at an assumed fraction of the device's peak.
    """
    timed, others = [], []
    for call in rollup.custom_calls:
        part, pair = part_of(call), _queries_keys(call)
        if part is None or pair is None:
            others.append(call)
            continue
        dense = attention_flops(*pair, part=part)
        flops = call.count * (causal_part(dense, keys=pair[1].dims[-2]) if causal else dense)
        timed.append(KernelTime(call, part, flops, flops / (fraction * peak_flops)))
    return timed, others


def causal_part(dense: int, *, keys: int) -> int:
    """Of as many queries as keys, each block with itself and what is before it: (m + block) / 2m of the pairs."""
    return dense * min(keys + BLOCK, 2 * keys) // (2 * keys)


def part_of(call: CustomCall) -> str | None:
    """Which kernel of splash attention, by the name that it gives its `pallas_call`; None of any other."""
    if 'splash' not in call.op_name:
        return None
    name = call.op_name.rpartition('splash_m')[2]
    if 'dkv' in name and len(_floats(call.outputs)) == 3:
        return 'dkv_dq'
    return next((part for part in ('dkv', 'dq', 'fwd') if part in name), None)


def attention_flops(queries: Array, keys: Array, *, part: str) -> int:
    """Dense FLOPs of one run, of q [.., heads, n, k] and k [.., heads of keys, m, k]: 2 x heads x n x m x k for each of
    the PRODUCTS of this part of it (values as wide as keys).
    """
    return PRODUCTS[part] * 2 * math.prod(queries.dims) * keys.dims[-2]


def _queries_keys(call: CustomCall) -> tuple[Array, Array] | None:
    """None where the operands do not begin with q, k and v."""
    found = _floats(call.operands)
    if len(found) < 3 or found[1] != found[2] or found[0].dims[-1] != found[1].dims[-1]:
        return None
    return found[0], found[1]


def _floats(arrays: tuple[Array, ...]) -> list[Array]:
    return [array for array in arrays if array.dtype in ('bf16', 'f32', 'f16') and len(array.dims) >= 3]
