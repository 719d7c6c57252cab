"""What a compiled text tells beside memory: compute as the compiler estimates it, and collectives. Nothing measured."""

from typing import Any

import jax

from mmjax.plan import links
from mmjax.plan.attended import Share
from mmjax.plan.collectives import collectives, grouped
from mmjax.plan.hlo import parse
from mmjax.plan.kernels import attention, seconds_of, unrecognised
from mmjax.plan.placement import links_of
from mmjax.plan.rollup import rolled_up
from mmjax.plan.topologies import Topology

# Of a device's peak, assumed of attention kernels, not measured on any TPU: on GPUs the authors of flash attention
# report from a half to three quarters for theirs (Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608).
KERNEL_FRACTION = 0.5


def analyse(text: str, topology: Topology, mesh: jax.sharding.Mesh, *, share: Share) -> dict[str, Any]:
    """Flat figures of one step on one device; see `plan` for their names.

    share: which part of all pairs its attention kernels go through.
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
    work, memory = rolled_up(module), generation.hbm_gbps * 1e9
    timed, others = attention(work, share=share, peak_flops=generation.flops, fraction=KERNEL_FRACTION)
    strange, others = [x for x in others if unrecognised(x)], [x for x in others if x.bytes or x.flops]
    beside = sum(seconds_of(call, peak_flops=generation.flops, bytes_per_second=memory) for call in others)
    dense, flops = (sum(getattr(one, what) for one in timed) for what in ('dense', 'flops'))
    seconds = {} if generation.clock_ghz is None else {'compute_seconds': work.cycles / (generation.clock_ghz * 1e9)}
    roofline = work.roofline_seconds(flops_per_second=generation.flops, bytes_per_second=memory)
    time = links.seconds(found, links_of(topology, mesh))
    told |= {f'{_name(key)}/seconds': value for key, value in time.seconds.items()}
    return seconds | {
        'seconds/compute': seconds.get('compute_seconds', roofline) + beside,
        'seconds/attention': sum(one.seconds for one in timed),
        'seconds/links': time.total,
        'cycles': work.cycles,
        **{f'cycles/{kind}': cycles for kind, cycles in work.cycles_by_kind.items()},
        'roofline_seconds': roofline,
        'dot_flops': work.dot_flops,
        'kernels': sum(one.call.count for one in timed),
        'kernel_flops': flops,
        'kernel_share': flops / dense if dense else None,
        'kernel_fraction': KERNEL_FRACTION,
        'unrecognised_kernels': sum(call.count for call in strange),
        'other_kernels': sum(call.count for call in others),
        'other_kernels_without_flops': sum(call.count for call in others if call.flops is None),
        'other_kernel_seconds': beside,
        'conditionals': work.conditions,
        'unknown_cycles': work.unknown,
        'unresolved_loops': len(work.unresolved),
        'links/model': links.MODEL,
        **told,
    }


def _name(key: tuple[str, tuple[str, ...]]) -> str:
    kind, axes = key
    return f'collectives/{kind}/{"+".join(axes)}'
