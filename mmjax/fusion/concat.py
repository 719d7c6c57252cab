"""Pool each modality, concatenate, MLP: the fusion of most published two-branch classifiers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.fusion.pooled import Pooled, Present, Vectors
from mmjax.nn.dense import Dense, activation


class Concat(Pooled):
    """shared = MLP([mean(tower_1(Z_1)); …; mean(tower_M(Z_M))]).

    hidden: widths of the MLP's layers, each followed by the activation; (): the concatenation itself, which is additive
    under a linear decoder, that is one whose `norm` is `NoNorm` (a norm of the whole lets each half scale the other).
    """

    hidden: tuple[int, ...] = (256,)
    activation: str = 'relu'

    def combine(
        self, vectors: Vectors, present: Present, *, train: bool
    ) -> tuple[Float[Array, 'b d2'], dict[str, Array]]:
        y = jnp.concatenate(list(vectors.values()), axis=-1)
        for i, width in enumerate(self.hidden):
            y = activation(self.activation)(Dense((width,), ('embed', 'mlp'), name=f'mlp_{i}')(y))
        return y, {}
