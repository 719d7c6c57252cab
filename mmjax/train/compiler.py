"""What the compiler is told of a training step, by the kind of the devices."""

from typing import Any

import jax

# Room in the fast memory of a core that one fusion may take. The default, 16 MiB, is a fraction of what these have, and
# makes large matrix products read their operands more often: on v5p the compiler's own estimate of the step of
# experiments/scale/decoder.py falls from 1.29 s to 1.06 s (`mmjax plan`; experiments/scale/llama2_7b_v5p_4x4x4.json).
ROOM = {'xla_tpu_scoped_vmem_limit_kib': str(64 * 1024)}
OPTIONS = {'TPU v5': ROOM, 'TPU v5p': ROOM, 'TPU v5 lite': ROOM, 'TPU v6 lite': ROOM}


def compiler_options(mesh: jax.sharding.Mesh) -> dict[str, Any] | None:
    """For `jax.jit`; None: the compiler's own defaults."""
    return OPTIONS.get(mesh.devices.flat[0].device_kind)
