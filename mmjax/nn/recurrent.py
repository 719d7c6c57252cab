"""Recurrent networks over masked sequences, from Linen's cells."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.errors import UserError, nearest

CELLS = {'lstm': nn.OptimizedLSTMCell, 'gru': nn.GRUCell}


class Recurrent(nn.Module):
    """States of a recurrent cell after each element; padding stands at the end of a row and is skipped.

    The state is carried in float32 whatever the compute dtype; the result has the dtype of x.

    Raises:
        UserError: on an unknown cell, or an odd width of a bidirectional network.
    """

    width: int
    cell: str = 'lstm'
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, 'b n d'], mask: Bool[Array, 'b n']) -> Float[Array, 'b n d2']:
        if self.cell not in CELLS:
            raise UserError(f"cell: unknown '{self.cell}'{nearest(self.cell, CELLS)} (there are {sorted(CELLS)})")
        lengths = mask.sum(axis=1)
        if not self.bidirectional:
            return self._run(self.width, 'forward')(x, seq_lengths=lengths).astype(x.dtype)
        if self.width % 2:
            raise UserError(f'width: a bidirectional network halves it, and {self.width} is odd')
        forward = self._run(self.width // 2, 'forward')(x, seq_lengths=lengths)
        backward = self._run(self.width // 2, 'backward', reverse=True, keep_order=True)(x, seq_lengths=lengths)
        return jnp.concatenate([cast(Array, forward), cast(Array, backward)], axis=-1).astype(x.dtype)

    def _run(self, width: int, name: str, **kwargs: Any) -> nn.RNN:
        inputs = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ('embed', 'mlp'))
        states = nn.with_logical_partitioning(nn.initializers.orthogonal(), (None, 'mlp'))
        cell = CELLS[self.cell](width, kernel_init=inputs, recurrent_kernel_init=states, name=name)
        return nn.RNN(cell, **kwargs)
