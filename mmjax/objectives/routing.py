"""What keeps a mixture of experts in use."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.errors import UserError, check_output
from mmjax.objectives.base import Objective
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class ExpertUse(Objective):
    """The mean over layers of four losses of a router with probabilities p, each over all tokens of a batch.

        balance   E Σ_e f_e mean(p_e)       f: share of the choices. 1 where all are equal    Fedus et al. 2021, eq. 4
        z         mean(logsumexp(x)^2)      keeps the logits x small                          Zoph et al. 2022, eq. 5
        local     mean(H(p))                a token is sure of its expert                     Mustafa et al. 2022, eq. 3
        spread    max(0, log(least) - H(mean(p)))    a modality has `least` experts           the same, eq. 4

    The last two are taken of each modality and averaged over those that the batch has. output: a decoder `Aux` of the
    fusion `Routed`. balance, z, local, spread: what each is multiplied by; least: not above the number of experts.

    Raises:
        UserError: where the model has no such output, it is none of a router, or `least` is more than it has experts.
    """

    couples_rows: ClassVar[bool] = True

    output: str = 'router'
    balance: float = 0.01
    z: float = 0.001
    local: float = 0.01
    spread: float = 0.01
    least: float = 2.0

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        check_output(self.output, outputs, asker='expert_use')
        told = outputs[self.output]
        if told.ndim != 5 or told.shape[3] != 4:
            raise UserError(
                f"expert_use: '{self.output}' {list(told.shape)} is not what a router tells, [batch, layers, "
                'modalities, 4, experts]; it is that of the decoder aux after the fusion routed'
            )
        if not 1 <= self.least <= told.shape[-1]:
            raise UserError(f'expert_use.least: {self.least} of {told.shape[-1]} experts; at least 1, at most all')
        return jnp.broadcast_to(self._of_batch(told, batch['weight']), told.shape[:1])

    def _of_batch(self, told: Float[Array, 'b l m 4 e'], weight: Float[Array, 'b']) -> Float[Array, '']:
        load, p, entropy, z = jnp.einsum('blmse,b->slme', told, weight)
        tokens = p.sum(axis=-1)  # [l m]
        everything = jnp.maximum(tokens.sum(axis=1), 1e-6)
        share = load.sum(axis=1) / jnp.maximum(load.sum(axis=(1, 2)), 1e-6)[:, None]
        balance = p.shape[-1] * (share * p.sum(axis=1)).sum(axis=-1) / everything
        there = tokens > 0
        one = jnp.where(there, tokens, 1)
        mean = p / one[:, :, None]
        of_mean = -(mean * jnp.log(jnp.where(mean > 0, mean, 1))).sum(axis=-1)
        by_modality = self.local * entropy.sum(axis=-1) / one
        by_modality += self.spread * jnp.maximum(0, jnp.log(self.least) - of_mean)
        by_modality = jnp.where(there, by_modality, 0).sum(axis=1) / jnp.maximum(there.sum(axis=1), 1)
        return (self.balance * balance + self.z * z.sum(axis=(1, 2)) / everything + by_modality).mean()
