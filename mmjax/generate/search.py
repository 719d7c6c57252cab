"""Which text is written: one token a step, chosen or drawn. The search over several texts is in `beam.py`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.errors import UserError
from mmjax.types import PAD_ID


class Writer(NamedTuple):
    """How texts go on. The states are pytrees of a shape that does not change with their length.

    extend: (state, the next id of each row [r]) -> (logits of the one after it [r v], state). widen: (state, k) -> that
    of k copies of each row, side by side. pick: (state, rows [r]) -> that of these rows, of which each is replaced by
    one that was widened from the same.
    """

    extend: Callable[[Any, Int[Array, 'r']], tuple[Float[Array, 'r v'], Any]]
    widen: Callable[[Any, int], Any]
    pick: Callable[[Any, Int[Array, 'r']], Any]


class Written(NamedTuple):
    """ids: up to and with the end token, then padding. score: of each text, the larger the better."""

    ids: Int[Array, 'b n']
    score: Float[Array, 'b']


@dataclass(frozen=True)
class Search:
    """Base of the ways to write a text."""

    abstract: ClassVar[bool] = True

    def __call__(
        self,
        first: Float[Array, 'b v'],
        state: Any,
        writer: Writer,
        *,
        limits: Int[Array, 'b'],
        length: int,
        end: int,
        keys: Array,
    ) -> Written:
        """first: logits of the first token. limits: the most tokens of each row, up to `length`; a row of which it is 0
        stays empty. end: the id that ends a text. keys: a random key [b] for each row.
        """
        raise NotImplementedError


def log_probabilities(logits: Float[Array, '... v']) -> Float[Array, '... v']:
    """Of each id but padding, which is never written."""
    real = jnp.arange(logits.shape[-1]) != PAD_ID
    return jax.nn.log_softmax(jnp.where(real, logits.astype(jnp.float32), -jnp.inf), axis=-1)


@dataclass(frozen=True)
class OneByOne(Search):
    """Base of those that settle each token at once. The score is the log-probability of the text, in nats."""

    abstract: ClassVar[bool] = True

    def choose(self, logs: Float[Array, 'b v'], keys: Array) -> Int[Array, 'b']:
        """The next id of each row. logs: log-probabilities. keys: of this step, [b]."""
        raise NotImplementedError

    def __call__(
        self,
        first: Float[Array, 'b v'],
        state: Any,
        writer: Writer,
        *,
        limits: Int[Array, 'b'],
        length: int,
        end: int,
        keys: Array,
    ) -> Written:
        def write(carry: Any, logits: Float[Array, 'b v']) -> Any:
            step, ids, score, done, _, state = carry
            logs = log_probabilities(logits)
            of_step = jax.vmap(functools.partial(jax.random.fold_in, data=step))(keys)
            chosen = jnp.where(done, PAD_ID, self.choose(logs, of_step).astype(jnp.int32))
            score += jnp.where(done, 0, jnp.take_along_axis(logs, chosen[:, None], axis=1)[:, 0])
            done |= (chosen == end) | (step + 1 >= limits)
            return step + 1, ids.at[:, step].set(chosen), score, done, chosen, state

        def body(carry: Any) -> Any:
            *others, chosen, state = carry
            logits, state = writer.extend(state, chosen)
            return write((*others, chosen, state), logits)

        b = first.shape[0]
        ids, none = jnp.full((b, length), PAD_ID, jnp.int32), jnp.full((b,), PAD_ID, jnp.int32)
        start = write((jnp.zeros((), jnp.int32), ids, jnp.zeros(b), limits < 1, none, state), first)
        _, ids, score, *_ = jax.lax.while_loop(lambda carry: ~carry[3].all(), body, start)
        return Written(ids, score)


@dataclass(frozen=True)
class Greedy(OneByOne):
    """The likeliest token at each step."""

    def choose(self, logs: Float[Array, 'b v'], keys: Array) -> Int[Array, 'b']:
        return logs.argmax(axis=-1)


@dataclass(frozen=True)
class Sample(OneByOne):
    """A draw from the model. Each row's draws depend on its own key alone.

    temperature: log-probabilities are divided by it. top_k: of the k likeliest tokens only; 0: of all. top_p: then of
    the fewest of them that make up this part of their probability (nucleus sampling, Holtzman et al. 2020, section
    3.1). Tokens that are as likely as the last of those stay too.

    Raises:
        UserError: on a temperature or top_p that is not above 0, a top_p above 1, a negative top_k.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not self.temperature > 0:
            raise UserError(f'sample.temperature: {self.temperature} is not above 0; for the likeliest take `greedy`')
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise UserError(f'sample: top_p {self.top_p} must be above 0 and at most 1, top_k {self.top_k} at least 0')

    def choose(self, logs: Float[Array, 'b v'], keys: Array) -> Int[Array, 'b']:
        return jax.vmap(jax.random.categorical)(keys, self.narrowed(logs))

    def narrowed(self, logs: Float[Array, 'b v']) -> Float[Array, 'b v']:
        """Log-probabilities of what is drawn from, up to a constant; -inf for what is left out."""
        logs = logs / self.temperature
        if self.top_k:
            least = jax.lax.top_k(logs, min(self.top_k, logs.shape[-1]))[0][:, -1:]
            logs = jnp.where(logs >= least, logs, -jnp.inf)
        if self.top_p < 1:
            ordered = jnp.sort(jax.nn.softmax(logs, axis=-1), axis=-1, descending=True)
            kept = jnp.cumsum(ordered, axis=-1) - ordered < self.top_p
            least = jnp.where(kept, ordered, jnp.inf).min(axis=-1, keepdims=True)
            logs = jnp.where(jax.nn.softmax(logs, axis=-1) >= least, logs, -jnp.inf)
        return logs
