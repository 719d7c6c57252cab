"""What a training step of a model needs, and what devices can do."""

from typing import Any

from mmjax.experiment import Experiment
from mmjax.nn.flops import count_flops
from mmjax.types import Shapes

# Dense bfloat16 FLOP/s of one device, by `jax.Device.device_kind`, from the vendors' data sheets.
PEAK_FLOPS = {
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5': 459e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'NVIDIA A100-SXM4-80GB': 312e12,
    'NVIDIA A100-SXM4-40GB': 312e12,
    'NVIDIA H100 80GB HBM3': 989e12,
}


def train_flops(experiment: Experiment, params: Any, batch: Shapes) -> int:
    """Model FLOPs of one step on a batch: 3 x the forward pass (the backward pass takes two products for each one).

    Recomputation (remat) does not count: it is no work that the model needs.
    """
    return 3 * count_flops(lambda p, b: experiment.model.apply({'params': p}, b, train=False), params, batch)
