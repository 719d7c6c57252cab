"""GPUs that are not here: the compiler of JAX's plugin for CUDA needs neither GPU nor driver, but a description of it."""

import importlib.util
import sys
from typing import Any

import jax
from jax.experimental import topologies

from mmjax.errors import UserError
from mmjax.plan.topologies import Topology

PLUGINS = ('xla_cuda13', 'xla_cuda12')

# What a GPU says of itself through CUDA, as XLA's list of targets has it (h100_sxm.txtpb), as a text proto of its
# GpuTargetConfig. Of the versions only `runtime_version` decides anything: features of the CUDA that is compiled for.
DESCRIPTIONS = {
    'h100': """
        gpu_device_info {
          cuda_compute_capability { major: 9 }
          core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
          threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
          registers_per_core_limit: 65536 registers_per_block_limit: 65536
          l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84942979072
        }
        runtime_version { major: 13 }
        platform_name: "CUDA"
        dnn_version_info { major: 9 minor: 10 }
        device_description_str: "NVIDIA H100 80GB HBM3"
    """,
}


def gpu_devices(topology: Topology) -> list[Any]:
    """Devices that are not here, for which JAX can compile: of all nodes, one after the other.

    Raises:
        UserError: where JAX's plugin for CUDA is not installed.
    """
    if not any(_installed(name) for name in PLUGINS):
        version = jax.__version__
        raise UserError(
            f'plan: this Python has no compiler for CUDA; it needs no GPU: {sys.executable} -m pip install '
            f'jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version} (and `ptxas` of CUDA 13 on PATH)'
        )
    nodes, of_each = topology.shape
    described = topologies.get_topology_desc(
        platform='cuda',
        topology_name=topology.generation.name,
        topology=f'1x{nodes}x{of_each}',
        target_config=DESCRIPTIONS[topology.generation.name],
    )
    return list(described.devices)


def _installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f'jax_plugins.{plugin}') is not None
    except ModuleNotFoundError:  # there are no plugins at all
        return False
