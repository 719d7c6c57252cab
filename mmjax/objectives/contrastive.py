"""Contrastive losses between modalities: each example's own partner against everybody else's."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.errors import UserError, check_output
from mmjax.objectives.base import BESIDE, Objective
from mmjax.objectives.pairs import EXACT, log_sums, softplus_sums
from mmjax.types import Batch, Outputs
from mmjax.views.base import CLEAN, View


@dataclass(frozen=True)
class Contrastive(Objective):
    """Base of the losses over all pairs of the whole batch, whatever devices and accumulation steps it is cut into.

    outputs: names of embeddings [b d], two or more, as `Embedded` gives them: every pair of them is contrasted, and the
    loss is the mean over the pairs that any example has. temperature: name of the output [b 2] of `Temperature`, log
    scale and bias, shared by all. An example without one of the two modalities (its embedding is zero) is no partner
    and counts in no mean.

    beside: another view than `view`, of which `beside/NAME` is the output NAME. Two augmented images of an example are
    each other's partner, the other view's images of other examples are the negatives (SimCLR: Chen et al. 2020, eq. 1,
    which also has those of the same view; with a text, SLIP: Mu et al. 2022, algorithm 1):

        ContrastiveSoftmax(outputs=('image', 'beside/image'), view=augmented, beside=Redrawn(augmented))

    Raises:
        UserError: on fewer than two names, or one that the model does not give; where one view, or none of its outputs,
            is named beside the other.
    """

    outputs: tuple[str, ...] = ()
    temperature: str = 'temperature'
    beside: View = field(default=CLEAN, metadata={'old': CLEAN})
    abstract: ClassVar[bool] = True
    couples_rows: ClassVar[bool] = True

    def __post_init__(self):
        if self._compares and self.beside == self.view:
            raise UserError(
                f'contrastive: {self.outputs} names outputs of the view beside {self.view}, which is the same; give '
                '`beside` another, such as Redrawn of it'
            )
        if not self._compares and self.beside != CLEAN:
            raise UserError(
                f'contrastive.beside: no output of {self.beside} is asked for; name it in `outputs`, as in '
                f"('image', '{BESIDE}image')"
            )

    @property
    def views(self) -> tuple[View, ...]:
        return (self.view, self.beside) if self._compares else (self.view,)

    @property
    def _compares(self) -> bool:
        return any(name.startswith(BESIDE) for name in self.outputs)

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        if len(set(self.outputs)) < 2:
            raise UserError(f'contrastive.outputs: {self.outputs}: name two embeddings or more')
        for name in (*self.outputs, self.temperature):
            check_output(name, outputs, asker='contrastive')
        log_scale, bias = outputs[self.temperature][0].astype(jnp.float32)
        losses, met = [], []
        for a, b, real in self._pairs(outputs, batch):
            count = jnp.maximum((batch['weight'] * real).sum(), 1e-6)
            # The step divides by the weight of all examples; here those that have both are to weigh as much.
            share = batch['weight'].sum() / count
            met.append(real.any())
            losses.append(share * jnp.where(real, self.of_pairs(a, b, jnp.exp(log_scale), bias, real), 0))
        return jnp.stack(losses).sum(axis=0) / jnp.maximum(jnp.stack(met).sum(), 1)

    def of_pairs(
        self, a: Float[Array, 'b d'], b: Float[Array, 'b d'], scale: Array, bias: Array, real: Bool[Array, 'b']
    ) -> Float[Array, 'b']:
        """The loss of each example; that of one that is not real is not looked at."""
        raise NotImplementedError

    def _pairs(self, outputs: Outputs, batch: Batch) -> Iterator[tuple[Array, Array, Array]]:
        for one, other in itertools.combinations(self.outputs, 2):
            a, b = (outputs[name].astype(jnp.float32) for name in (one, other))
            yield a, b, (batch['weight'] > 0) & a.any(axis=-1) & b.any(axis=-1)


@dataclass(frozen=True)
class ContrastiveSoftmax(Contrastive):
    """CLIP (Radford et al. 2021, figure 3): the mean of the cross-entropies over rows and over columns of s a b^T.

    A bias, which every score has, changes nothing here.
    """

    def of_pairs(
        self, a: Float[Array, 'b d'], b: Float[Array, 'b d'], scale: Array, bias: Array, real: Bool[Array, 'b']
    ) -> Float[Array, 'b']:
        rows, columns = log_sums(a, b, scale, bias, real)
        return (rows + columns) / 2 - (scale * jnp.einsum('bd,bd->b', a, b, precision=EXACT) + bias)


@dataclass(frozen=True)
class ContrastiveSigmoid(Contrastive):
    """SigLIP (Zhai et al. 2023, section 3.2): each pair is a yes/no question. The sum over partners, in nats."""

    def of_pairs(
        self, a: Float[Array, 'b d'], b: Float[Array, 'b d'], scale: Array, bias: Array, real: Bool[Array, 'b']
    ) -> Float[Array, 'b']:
        # log(1 + e^-s) = log(1 + e^s) - s of the one partner that is right.
        return softplus_sums(a, b, scale, bias, real) - (scale * jnp.einsum('bd,bd->b', a, b, precision=EXACT) + bias)
