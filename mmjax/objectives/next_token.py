"""The likelihood of a text: captioning, language modelling, prefix-LM."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from mmjax.errors import check_field, check_output
from mmjax.objectives.base import Objective
from mmjax.objectives.deferred import by_parts
from mmjax.types import PAD_ID, Batch, Deferred, Outputs


@dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the logits `output` [b n v] at each place with the token of the text `target` [b n] at the next
    one, in nats a token; the average over the batch is over its tokens, not its rows.

    A token counts where `target/causal` says 1 (see `types.py`): what is written after a prefix, which is not learned.
    In a packed row the first token of an example is nobody's next one. Logits that are `Deferred` are computed part by
    part. smoothing: probability mass spread evenly over all ids (Szegedy et al. 2016, section 7).

    Raises:
        UserError: where the model has no such output, the batch no such text, or nothing says what is prefix; and
            before a run starts where the model's tokens depend on later ones (`Fusion.causal`).
    """

    causal: ClassVar[bool] = True

    output: str = 'text'
    target: str = 'text'
    smoothing: float = 0.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        check_output(self.output, outputs, asker='next_token')
        counts, logits, ids = self._counts(batch), outputs[self.output], batch[self.target]
        if isinstance(logits, Deferred):
            losses = by_parts(self._losses, logits, jnp.roll(ids, -1, axis=1))[:, :-1]
        else:
            losses = self._losses(logits[:, :-1], ids[:, 1:])
        return jnp.where(counts, losses, 0).sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)

    def _losses(self, logits: Float[Array, 'b n v'], ids: Int[Array, 'b n']) -> Float[Array, 'b n']:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, ids)
        if self.smoothing:
            uniform = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
            losses = (1 - self.smoothing) * losses + self.smoothing * uniform
        return losses

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        return batch['weight'] * self._counts(batch).sum(axis=1)

    def _counts(self, batch: Batch) -> Bool[Array, 'b n']:
        """Which of the tokens from the second on are learned."""
        name = self.target
        for field in (name, f'{name}/causal'):
            hint = 'PromptAnswer writes a text with the marks of what is learned'
            check_field(field, batch, asker='next_token', hint=hint)
        counts = (batch[name] != PAD_ID) & (batch[f'{name}/causal'] == 1)
        if f'{name}/present' in batch:
            counts &= batch[f'{name}/present'][:, None]
        if f'{name}/segments' in batch:
            segments = batch[f'{name}/segments']
            return counts[:, 1:] & (segments[:, 1:] == segments[:, :-1])
        return counts[:, 1:]
