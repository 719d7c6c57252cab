"""Beam search: the best of several texts that are written side by side."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Int

from mmjax.errors import UserError
from mmjax.generate.search import Search, Writer, Written, log_probabilities
from mmjax.types import PAD_ID


class _Beams(NamedTuple):
    """The k best texts of each row that may go on, by their log-probability, and of those that have ended, by score."""

    step: Int[Array, '']
    ids: Int[Array, 'b k n']
    logs: Float[Array, 'b k']
    ended: Int[Array, 'b k n']
    scores: Float[Array, 'b k']
    state: Any


@dataclass(frozen=True)
class Beam(Search):
    """Of all texts that `width` beams come across, the one with the largest score: log P(text) / lp(its tokens), with

        lp(n) = ((5 + n) / 6) ^ penalty

    Wu et al. 2016 (GNMT), eq. 14, without the coverage term; the end token counts. 0.6 is T5's, 0 asks for the
    likeliest text. A text that reaches its limit ends there. A row is settled when nothing that goes on can beat its
    best text, so that a width of vocabulary ^ length finds the best of all texts.

    Raises:
        UserError: on a width below 1 or a negative penalty.
    """

    width: int = 4
    penalty: float = 0.6

    def __post_init__(self):
        if self.width < 1 or self.penalty < 0:
            raise UserError(f'beam: width {self.width} must be at least 1, penalty {self.penalty} at least 0')

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
        b, k = first.shape[0], self.width

        def grow(beams: _Beams, logits: Float[Array, 'bk v']) -> _Beams:
            step, logs = beams.step, rearrange(log_probabilities(logits), '(b k) v -> b k v', k=k)
            v = logs.shape[-1]
            # Of 2k at most k end (each beam ends in one way), so that k go on where there are as many.
            totals, places = jax.lax.top_k(rearrange(beams.logs[:, :, None] + logs, 'b k v -> b (k v)'), 2 * k)
            beam, token = places // v, places % v
            ids = _take(beams.ids, beam).at[:, :, step].set(token)
            ends = (token == end) | (step + 1 >= limits[:, None])

            scores = jnp.concatenate([beams.scores, jnp.where(ends, totals / self._norm(step + 1), -jnp.inf)], axis=1)
            scores, best = jax.lax.top_k(scores, k)
            ended = _take(jnp.concatenate([beams.ended, ids], axis=1), best)

            logs, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, totals), k)
            rows = jnp.arange(b)[:, None] * k + jnp.take_along_axis(beam, best, axis=1)
            state = writer.pick(beams.state, rearrange(rows, 'b k -> (b k)'))
            return _Beams(step + 1, _take(ids, best), logs, ended, scores, state)

        def hopeful(beams: _Beams) -> Bool[Array, '']:
            most = beams.logs.max(axis=1) / self._norm(limits)  # what comes is no likelier, and lp grows
            return (most > beams.scores.max(axis=1)).any()

        def body(beams: _Beams) -> _Beams:
            last = rearrange(beams.ids[:, :, beams.step - 1], 'b k -> (b k)')
            logits, state = writer.extend(beams.state, last)
            return grow(beams._replace(state=state), logits)

        nothing = jnp.full((b, k, length), PAD_ID, jnp.int32)
        alone = jnp.where((jnp.arange(k) == 0) & (limits[:, None] > 0), 0.0, -jnp.inf)  # one text of which all start
        start = _Beams(
            jnp.zeros((), jnp.int32), nothing, alone, nothing, jnp.full((b, k), -jnp.inf), writer.widen(state, k)
        )
        beams = jax.lax.while_loop(hopeful, body, grow(start, repeat(first, 'b v -> (b k) v', k=k)))
        return Written(beams.ended[:, 0], jnp.where(limits > 0, beams.scores[:, 0], 0))

    def _norm(self, tokens: Int[Array, '...']) -> Float[Array, '...']:
        return ((5 + tokens) / 6) ** self.penalty


def _take(x: Int[Array, 'b j n'], places: Int[Array, 'b k']) -> Int[Array, 'b k n']:
    return jnp.take_along_axis(x, places[:, :, None], axis=1)
