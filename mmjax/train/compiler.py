"""What the compiler is told of a training step, by the kind of the devices."""

from typing import Any

import jax

# Room in the fast memory of a core that one fusion may take: the default is a fraction of what a v5p has, and makes
# large products read their operands more often. What the compiler estimates with it stands in
# experiments/scale/llama2_7b_v5p_4x4x4.json. For other kinds nothing was compared.
ROOM = {'xla_tpu_scoped_vmem_limit_kib': str(64 * 1024)}
OPTIONS = {'TPU v5': ROOM, 'TPU v5p': ROOM}


def compiler_options(mesh: jax.sharding.Mesh) -> dict[str, Any] | None:
    """For `jax.jit`; None: the compiler's own defaults."""
    return OPTIONS.get(mesh.devices.flat[0].device_kind)
