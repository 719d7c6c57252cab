"""What a compiled text tells beside memory: compute as the compiler estimates it, and collectives. Nothing measured."""

from typing import Any

import jax

from mmjax.plan import links
from mmjax.plan.collectives import collectives, grouped
from mmjax.plan.hlo import parse
from mmjax.plan.kernels import attention
from mmjax.plan.placement import links_of
from mmjax.plan.rollup import cycles
from mmjax.plan.topologies import Topology

# Of a device's peak, assumed of attention kernels, not measured on any TPU: on GPUs the authors of flash attention
# report from a half to three quarters for theirs (Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608).
KERNEL_FRACTION = 0.5


def analyse(text: str, topology: Topology, mesh: jax.sharding.Mesh, *, causal: bool) -> dict[str, Any]:
    """Flat figures of one step on one device; see `plan` for their names.

    causal: whether all its attention kernels leave out what comes after a query.
    """
    generation, module = topology.generation, parse(text)
    found = collectives(module, mesh.shape)
    told: dict[str, Any] = {}
    for one in found:
        told[f'collective_gb/{one.kind}'] = told.get(f'collective_gb/{one.kind}', 0.0) + one.wire_bytes / 1e9
    for one in grouped(found):
        name = _name(one.key)
        told |= {f'{name}/{what}': 0 for what in ('count', 'out_gb', 'wire_gb')} | told
        told[f'{name}/count'] += one.count
        told[f'{name}/out_gb'] += one.bytes_out / 1e9
        told[f'{name}/wire_gb'] += one.wire_bytes / 1e9
    if generation.platform != 'tpu':
        return told
    work = cycles(module)
    timed, others = attention(work, causal=causal, peak_flops=generation.flops, fraction=KERNEL_FRACTION)
    seconds = {} if generation.clock_ghz is None else {'compute_seconds': work.cycles / (generation.clock_ghz * 1e9)}
    roofline = work.roofline_seconds(flops_per_second=generation.flops, bytes_per_second=generation.hbm_gbps * 1e9)
    time = links.seconds(found, links_of(topology, mesh))
    told |= {f'{_name(key)}/seconds': value for key, value in time.seconds.items()}
    return seconds | {
        'seconds/compute': seconds.get('compute_seconds', roofline),
        'seconds/attention': sum(one.seconds for one in timed),
        'seconds/links': time.total,
        'cycles': work.cycles,
        'roofline_seconds': roofline,
        'dot_flops': work.dot_flops,
        'kernel_seconds': sum(one.seconds for one in timed),
        'kernel_flops': sum(one.flops for one in timed),
        'kernel_fraction': KERNEL_FRACTION,
        'kernels': sum(one.call.count for one in timed),
        'other_kernels': sum(call.count for call in others if call.bytes),
        'other_kernel_seconds': sum(call.bytes for call in others) / (generation.hbm_gbps * 1e9),
        'conditionals': work.conditions,
        'unknown_cycles': work.unknown,
        'unresolved_loops': len(work.unresolved),
        'collective_seconds': time.total,
        'links/model': links.MODEL,
        **told,
    }


def _name(key: tuple[str, tuple[str, ...]]) -> str:
    kind, axes = key
    return f'collectives/{kind}/{"+".join(axes)}'
