"""Several answers that are right to a degree."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmjax.errors import check_field, check_output
from mmjax.objectives.base import Objective, with_target
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class SoftTargets(Objective):
    """Binary cross-entropy of each logit [b c] with how right that class is, summed over classes, in nats.

    The loss of Teney et al. 2018 ("Tips and tricks for visual question answering"), whose classes are answers and whose
    targets are the shares of VQA's accuracy. output: name of the logits. target: of the fields `TARGET/candidates`
    int [b k], class ids with -1 for none, and `TARGET/scores` [b k], from 0 to 1; other classes are wrong. An example
    without the target (`TARGET/present`) counts nothing.

    Raises:
        UserError: where the model has no such output or the batch no such field.
    """

    output: str = 'answer'
    target: str = 'answer'

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        candidates, scores = f'{self.target}/candidates', f'{self.target}/scores'
        check_output(self.output, outputs, asker='soft_targets')
        for name in (candidates, scores):
            check_field(name, batch, asker='soft_targets')
        logits, ids = outputs[self.output], batch[candidates]
        b, c = logits.shape
        place = jnp.where(ids < 0, c, ids)  # beyond the last class, so that it is dropped; -1 would be the last one
        wanted = jnp.zeros_like(logits).at[jnp.arange(b)[:, None], place].max(batch[scores], mode='drop')
        return optax.sigmoid_binary_cross_entropy(logits, wanted).sum(axis=-1)

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        return with_target(batch, self.target)
