"""FLOPs of a training step against a formula."""

import jax
import jax.numpy as jnp

from mmjax.train.flops import train_flops
from mmjax.train.state import create_state
from tests.train import toy


def test_a_training_step_is_three_forward_passes():
    experiment = toy.experiment()
    b, width, heads_and_mlp = 16, 16, 4 + 8
    batch = {
        'image': jnp.zeros((b, 8, 8, 3), jnp.uint8),
        'text': jnp.ones((b, 3), jnp.int32),
        'answer': jnp.zeros(b, jnp.int32),
        'weight': jnp.ones(b),
    }

    def layer(n):  # multiply-adds of one block on n tokens
        return heads_and_mlp * n * width**2 + 2 * n**2 * width

    macs = b * (4 * 48 * width + 2 * layer(7) + 2 * width * 2)
    params = jax.eval_shape(lambda: create_state(experiment, batch)).params
    assert train_flops(experiment, params, batch) == 3 * 2 * macs
