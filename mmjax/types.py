"""The types that travel between the rooms, and the legend of dimension letters.

| letter | dimension                       | logical axis |
|--------|---------------------------------|--------------|
| b      | batch                           | `batch`      |
| n, m   | tokens: of the query, of the key | `length`    |
| d      | width of a token                | `embed`      |
| h, k   | heads, width of one head        | `heads`, `head_dim` |
| f      | hidden width of the MLP         | `mlp`        |
| v      | vocabulary                      | `vocab`      |
| c      | classes                         | `classes`    |
| l      | layers of a stack               | `layers`     |
| e      | experts of a mixture            | `expert`     |
| y x p q | rows and columns of a grid, of a patch | -      |

A batch is a flat dict of arrays of static shape. A modality `m` is the key `m`; `m/present` [b] says in which examples
it exists (without it, in all). `weight` [b] is 0 for a row that only fills the batch up. Text ids: 0 is padding, 1 a
token that is not told: a word that the tokenizer does not know, or one that a view has masked.

What else a batch says of the tokens of `m`, where the encoder takes it (`Encoder.marks`): `m/causal`, `m/segments`,
`m/positions` [b n], see `Tokens`. A packed row holds several examples: text as tokens one after the other with the
number of their example in `m/segments` [b n], from 1, and positions that start again with each; whole items, such as
images, as `m` [b k …] with `m/segments` [b k] and `m/present` [b k]. Sequences that are no ids have `m/mask` [b n];
patches of images at their own aspect ratio also `m/yx` and `m/grid` [b n 2] (see `mmjax.data.NativePatches`). Of a
mixture, `source` [b] is the number of each row's source.

A target `t` may have `t/present` [b] too: an example without it counts in no loss. What a view has masked of `m` is
`m/masked` [b n], one a token, and what it was is `m/target`, of the shape of `m`.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mmjax.errors import UserError

PAD_ID = 0
UNTOLD_ID = 1

# What a mixture of experts tells of itself by expert, as sums over tokens: choices; probabilities, which sum to the
# number of tokens over the experts; -p log p, which sums to their entropies; logsumexp(logits)^2 / experts.
ROUTING = ('load', 'probability', 'entropy', 'z')

Batch = Mapping[str, Array]
Shapes = Mapping[str, jax.ShapeDtypeStruct | Array | np.ndarray]  # a batch of which only shapes and dtypes matter
Outputs = Mapping[str, Any]  # arrays, but for `Deferred` logits


class Order(enum.Enum):
    """What is known of rows of tokens before any number is: that each is one segment in which `cumsum(causal)` is the
    same everywhere (FLAT) or never falls (RISING); or not even that.
    """

    FLAT = 'flat'
    RISING = 'rising'
    UNKNOWN = 'unknown'


@struct.dataclass
class Tokens:
    """Tokens travel with their mask.

    `segments` isolates examples that share a row. `causal` is 0 where a token joins its neighbour's block and 1 where
    it starts one; a query may read a key if and only if both are real, their segments agree and
    `cumsum(causal)[key] <= cumsum(causal)[query]`:

        0 0 0 0 0 0   bidirectional
        0 0 0 1 1 1   prefix-LM: the first three read one another, each later one reads all before it
        1 1 1 1 1 1   causal
    """

    values: Float[Array, 'b n d']
    mask: Bool[Array, 'b n']
    positions: Int[Array, 'b n']
    segments: Int[Array, 'b n']
    causal: Int[Array, 'b n']
    order: Order = struct.field(pytree_node=False, default=Order.UNKNOWN)

    @classmethod
    def of(
        cls,
        values: Float[Array, 'b n d'],
        mask: Bool[Array, 'b n'],
        *,
        positions: Int[Array, 'b n'] | None = None,
        segments: Int[Array, 'b n'] | None = None,
        causal: Int[Array, 'b n'] | None = None,
    ) -> 'Tokens':
        """Tokens of which nothing is said but this: bidirectional, of one example a row, at positions 0, 1, 2, …

        causal: zeros and ones, as above, for each example of the row.
        """
        zeros = jnp.zeros(mask.shape, jnp.int32)
        positions = zeros + jnp.arange(mask.shape[1]) if positions is None else positions
        order = Order.FLAT if causal is None else Order.RISING
        causal = zeros if causal is None else causal.astype(jnp.int32)
        if segments is None:
            return cls(values, mask, positions, zeros, causal, order)
        return cls(values, mask, positions, segments, _restarted(causal, segments))

    @property
    def present(self) -> Bool[Array, 'b']:
        """Whether a row has any real token."""
        return self.mask.any(axis=1)


def _replace(tokens: Tokens, **changes: Any) -> Tokens:
    """Who changes what an order is of has to say which it is then."""
    if {'segments', 'causal'} & changes.keys():
        changes.setdefault('order', Order.UNKNOWN)
    return dataclasses.replace(tokens, **changes)


Tokens.replace = _replace  # pyright: ignore


@struct.dataclass
class Fused:
    """What a fusion gives: every modality's tokens back, tokens that belong to none, and whatever is worth reporting.

    Where `shared` is given it holds the design's answer and decoders read it; else they read the streams.
    """

    streams: Mapping[str, Tokens]
    shared: Tokens | None = None
    aux: dict[str, Array] = struct.field(default_factory=dict)

    def readable(self) -> Mapping[str, Tokens]:
        """The tokens that a decoder reads where it is not told which."""
        return self.streams if self.shared is None else {'shared': self.shared}


@struct.dataclass
class Deferred:
    """Logits that are not computed yet, `values @ kernel + bias`: of a large vocabulary there is too little room for
    all of them at once. parts: in how many they are to be computed.
    """

    values: Float[Array, 'b n d']
    kernel: Float[Array, 'd v']
    bias: Float[Array, 'v'] | None
    parts: int = struct.field(pytree_node=False, default=4)


def _restarted(causal: Int[Array, 'b n'], segments: Int[Array, 'b n']) -> Int[Array, 'b n']:
    """Takes back, where a segment starts, what those before it have counted: `cumsum` starts again with each.

    segments   1 1 1 2 2 2   causal   0 1 1 0 1 1   ->   0 1 1 -2 1 1
    """
    starts = jnp.diff(segments, axis=1, prepend=segments[:, :1]) != 0
    before = jnp.cumsum(causal, axis=1) - causal
    taken = jax.lax.cummax(jnp.where(starts, before, 0), axis=1)  # by the segments up to here: it only grows
    return causal - jnp.diff(taken, axis=1, prepend=0)


def concatenate(tokens: Mapping[str, Tokens]) -> Tokens:
    """Joins tokens of several modalities along the length, in the dict's order.

    Raises:
        UserError: where their widths differ.
    """
    widths = {name: part.values.shape[-1] for name, part in tokens.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f'tokens of different widths, {widths}, cannot be read as one; set `width` to one value')
    orders = {part.order for part in tokens.values()}
    order = next(x for x in (Order.UNKNOWN, Order.RISING, Order.FLAT) if x in orders)
    parts = [part.replace(order=order) for part in tokens.values()]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *parts)


def split(tokens: Tokens, like: Mapping[str, Tokens]) -> dict[str, Tokens]:
    """Undoes `concatenate`: cuts values into the lengths of `like`, whose masks, segments and positions they get."""
    streams, start = {}, 0
    for name, part in like.items():
        stop = start + part.mask.shape[1]
        streams[name] = part.replace(values=tokens.values[:, start:stop])
        start = stop
    return streams


def masked_mean(tokens: Tokens) -> Float[Array, 'b d']:
    """Mean over the real tokens of a row; zeros where there is none."""
    mask = tokens.mask[:, :, None].astype(tokens.values.dtype)
    return (tokens.values * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)
