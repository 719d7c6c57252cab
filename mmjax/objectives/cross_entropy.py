"""Classification."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmjax.errors import check_field, check_output
from mmjax.objectives.base import Objective, with_target
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Softmax cross-entropy of the logits `output` [b c] with the class ids `target` [b] of the batch, in nats.

    smoothing: probability mass spread evenly over all classes (Szegedy et al. 2016, section 7). Where the batch has
    `target/present` [b], an example without the target counts nothing.

    Raises:
        UserError: where the model has no such output or the batch no such field.
    """

    output: str = 'answer'
    target: str = 'answer'
    smoothing: float = 0.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        check_output(self.output, outputs, asker='cross_entropy')
        check_field(self.target, batch, asker='cross_entropy')
        logits, target = outputs[self.output], batch[self.target]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        if self.smoothing:
            uniform = optax.losses.softmax_cross_entropy(logits, jnp.full_like(logits, 1 / logits.shape[-1]))
            loss = (1 - self.smoothing) * loss + self.smoothing * uniform
        return loss

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        return with_target(batch, self.target)
