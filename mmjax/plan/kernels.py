"""Custom calls, of which the compiler counts nothing: attention kernels by a model, always labelled so; others by the
FLOPs that their author notes and the bytes that they move.
"""

import dataclasses
import math
from collections.abc import Callable

from mmjax.plan.hlo import Array
from mmjax.plan.rollup import CustomCall, Rollup

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
    """Of all runs of one kernel. dense: FLOPs if every query read every key. flops: of the blocks that it reads."""

    call: CustomCall
    part: str
    dense: int
    flops: int
    seconds: float


def attention(
    rollup: Rollup, *, share: Callable[[int, int], float], peak_flops: float, fraction: float
) -> tuple[list[KernelTime], list[CustomCall]]:
    """Time of the attention kernels among the custom calls, and the custom calls that are none.

    share: of so many queries and so many keys, which part of all pairs a kernel goes through (see `attended`). The
    seconds are those FLOPs at an assumed fraction of the device's peak.
    """
    timed, others = [], []
    for call in rollup.custom_calls:
        part, pair = part_of(call), _queries_keys(call)
        if part is None or pair is None:
            others.append(call)
            continue
        dense = call.count * attention_flops(*pair, part=part)
        flops = round(dense * share(*(array.dims[-2] for array in pair)))
        timed.append(KernelTime(call, part, dense, flops, flops / (fraction * peak_flops)))
    return timed, others


def seconds_of(call: CustomCall, *, peak_flops: float, bytes_per_second: float) -> float:
    """Of a kernel that is no attention: by its FLOPs, where its author notes any, or its bytes, whichever is longer."""
    return max((call.flops or 0) / peak_flops, call.bytes / bytes_per_second)


def unrecognised(call: CustomCall) -> bool:
    """Whether a kernel's own name says attention: of one that `attention` hands back, that its time is not known."""
    name = call.op_name.removesuffix('/pallas_call').rpartition('/')[2]
    return call.target == 'tpu_custom_call' and ('splash' in name or 'attention' in name)


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
    """None where the operands do not begin with q, k and v, wherever these lie."""
    found = _floats(call.operands)
    if len(found) < 3 or found[1] != found[2] or found[0].dims[-1] != found[1].dims[-1]:
        return None
    return found[0], found[1]


def _floats(arrays: tuple[Array, ...]) -> list[Array]:
    return [array for array in arrays if array.dtype in ('bf16', 'f32', 'f16') and len(array.dims) >= 3]
