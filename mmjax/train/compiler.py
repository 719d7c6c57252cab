"""What the compiler is told of a training step, by the kind of the devices."""

from typing import Any

# Room in the fast memory of a core that one fusion may take: the default is a fraction of what a v5p has, and makes
# large products read their operands more often. What the compiler estimates with it stands in
# experiments/scale/llama2_7b_v5p_4x4x4.json. For other kinds nothing was compared.
ROOM = {'xla_tpu_scoped_vmem_limit_kib': str(64 * 1024)}
# XLA refuses what has no such kernel (https://openxla.org/xla/determinism).
FIXED_ORDER = {'xla_gpu_deterministic_ops': True}
# A product is summed in as many pieces as there are threads, whose waiting for one another takes long in a loop.
ONE_THREAD = {'xla_cpu_multi_thread_eigen': False}
OPTIONS: dict[str, dict[str, Any]] = {'TPU v5': ROOM, 'TPU v5p': ROOM}


def compiler_options(device: Any, *, deterministic: bool) -> dict[str, Any] | None:
    """For `jax.jit`; None: the compiler's own defaults. device: one of the mesh. deterministic: see `Experiment`."""
    options = OPTIONS.get(device.device_kind, {})
    if deterministic and device.platform in ('gpu', 'cuda', 'rocm'):
        options = {**options, **FIXED_ORDER}
    if deterministic and device.platform == 'cpu':
        options = {**options, **ONE_THREAD}
    return options or None
