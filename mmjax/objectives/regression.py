"""Numbers to be hit: how far an output is from a field of the batch."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax
from einops import rearrange
from jaxtyping import Array, Float

from mmjax.errors import UserError, check_field, check_output
from mmjax.objectives.base import Objective, with_target
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Regression(Objective):
    """Base: the mean over the numbers of an example of a distance between output [b k] and target [b k], or [b].

    output: such as `Regressor` gives. target: a field of numbers; the optimiser likes them of the order of 1. Where the
    batch has `target/present` [b], an example without the target counts nothing.

    Raises:
        UserError: where the model has no such output, the batch no such field, or their shapes differ.
    """

    abstract: ClassVar[bool] = True

    output: str = 'value'
    target: str = 'value'

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, 'b']:
        check_output(self.output, outputs, asker='regression')
        check_field(self.target, batch, asker='regression')
        guess, target = outputs[self.output].astype(jnp.float32), batch[self.target].astype(jnp.float32)
        target = rearrange(target, 'b -> b 1') if target.ndim == 1 else target
        if guess.shape != target.shape:
            raise UserError(
                f"regression: output '{self.output}' is {list(guess.shape)}, target '{self.target}' "
                f"{list(batch[self.target].shape)}; set the decoder's width to the target's"
            )
        return self.of_numbers(guess, target).mean(axis=-1)

    def weights(self, batch: Batch) -> Float[Array, 'b']:
        return with_target(batch, self.target)

    def of_numbers(self, guess: Float[Array, 'b k'], target: Float[Array, 'b k']) -> Float[Array, 'b k']:
        raise NotImplementedError


@dataclass(frozen=True)
class SquaredError(Regression):
    """(guess - target)^2: best at the mean."""

    def of_numbers(self, guess: Float[Array, 'b k'], target: Float[Array, 'b k']) -> Float[Array, 'b k']:
        return (guess - target) ** 2


@dataclass(frozen=True)
class AbsoluteError(Regression):
    """|guess - target|: best at the median."""

    def of_numbers(self, guess: Float[Array, 'b k'], target: Float[Array, 'b k']) -> Float[Array, 'b k']:
        return jnp.abs(guess - target)


@dataclass(frozen=True)
class Huber(Regression):
    """Half the squared error up to `delta`, from there on straight on with slope `delta`. Huber 1964, eq. 4."""

    delta: float = 1.0

    def __post_init__(self):
        if self.delta <= 0:
            raise UserError(f'huber.delta: {self.delta} is not above 0')

    def of_numbers(self, guess: Float[Array, 'b k'], target: Float[Array, 'b k']) -> Float[Array, 'b k']:
        return optax.losses.huber_loss(guess, target, delta=self.delta)
