"""GPUs that are not here: the CUDA compiler of JAX's plugin needs neither GPU nor driver, but a description of one."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from mmjax.errors import UserError
from mmjax.plan.topologies import Topology

# The compiler, its runtime, and the assembler and library of device functions, for machines without CUDA.
PACKAGES = ('jax-cuda13-plugin=={jax}', 'jax-cuda13-pjrt=={jax}', "'nvidia-cuda-nvcc>=13,<14'")

CUDA = ('/usr/local/cuda', '/opt/cuda')  # where an installation of it lies

# What a GPU says of itself through CUDA, as XLA's list of targets has it (h100_sxm.txtpb), as a text proto of its
# GpuTargetConfig. The versions are of the CUDA 13 and cuDNN 9 that JAX's packages bring.
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
        UserError: where JAX's plugin for CUDA, or what it needs of CUDA, is not installed.
    """
    if not (_locations('jax_plugins.xla_cuda13') and _has_tools()):
        packages = ' '.join(PACKAGES).format(jax=jax.__version__)
        raise UserError(
            'plan: this Python has no compiler for CUDA 13, which needs no GPU; install it: '
            f'{sys.executable} -m pip install {packages}'
        )
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # that there is no driver is no news
    nodes, of_each = topology.shape
    described = topologies.get_topology_desc(
        platform='cuda',
        topology_name=topology.generation.name,
        topology=f'1x{nodes}x{of_each}',
        target_config=DESCRIPTIONS[topology.generation.name],
    )
    return list(described.devices)


def _has_tools() -> bool:
    """Whether the compiler finds the rest of CUDA, where it looks for it: without, the process would die of it."""
    if 'xla_gpu_cuda_data_dir' in os.environ.get('XLA_FLAGS', ''):
        return True
    places = (*map(Path, CUDA), *(Path(place, 'cu13') for place in _locations('nvidia')))
    return any((place / 'nvvm/libdevice').is_dir() for place in places)


def _locations(package: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # not even what it is part of
        return []
    return list(spec.submodule_search_locations or ()) if spec else []
