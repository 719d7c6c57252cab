"""A model that writes, one token a step: a pass over the prompt that fills the cache, then a token at a time."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import repeat
from flax import struct
from jaxtyping import Array, Float, Int

from mmjax.config import swaps
from mmjax.errors import UserError, nearest
from mmjax.fusion.base import Fusion
from mmjax.generate.search import Writer
from mmjax.model import Model
from mmjax.nn import cache as caches
from mmjax.types import PAD_ID, Batch, Tokens


def check_writes(model: Model, *, stream: str, asker: str) -> None:
    """Raises UserError, in the name of `asker`, where a token of the text `stream` can't be had from those before."""
    encoders = model.encoders
    if stream not in encoders:
        raise UserError(
            f"{asker}: no modality '{stream}'{nearest(stream, encoders)} (the model has {sorted(encoders)})"
        )
    if 'causal' not in encoders[stream].marks:
        what = type(encoders[stream]).__name__
        raise UserError(
            f'{asker}: model.encoders.{stream} is {what}, which does not take who may read whom; one that does is '
            'token_encoder'
        )
    if not model.fusion.causal:
        names = [swaps.snake_case(cls.__name__) for cls in swaps.concrete(Fusion) if cls.causal is True]
        raise UserError(
            f'{asker}: model.fusion is {type(model.fusion).__name__}, in which a token depends on those after it, so '
            f'that no text can be learned or written a token at a time; those that can: {", ".join(names)}'
        )


@struct.dataclass
class Place:
    """Where the texts are. cache: see `nn/cache.py`. position, count: of the next token, as `Tokens` has them; the
    count is `cumsum(causal)`.
    """

    cache: Any
    position: Int[Array, 'r']
    count: Int[Array, 'r']


class Begun(NamedTuple):
    """logits: of the first token. prompt: how many tokens each row's has; 0 where the text is absent."""

    logits: Float[Array, 'b v']
    prompt: Int[Array, 'b']
    place: Place
    writer: Writer


def begin(model: Model, params: Any, batch: Batch, *, stream: str, output: str, length: int) -> Begun:
    """Reads the batch but for the answer in it, and gives what writes one.

    The prompt is what `stream/causal` marks with 0: the tokens that read one another. output: the decoder that gives
    the logits of a token. length: the most tokens of prompt and text together.

    Raises:
        UserError: where the batch does not say what is prompt, or has packed rows.
    """
    if f'{stream}/causal' not in batch:
        raise UserError(
            f"generate: the batch has no '{stream}/causal', which says what is prompt and what is to be written; "
            'PromptAnswer writes it'
        )
    if f'{stream}/segments' in batch:
        raise UserError(f'generate: rows of {stream} are packed; texts are written in rows of their own')
    ids = jnp.where(batch[f'{stream}/causal'] == 0, batch[stream], PAD_ID)
    batch = {**batch, stream: ids, f'{stream}/causal': jnp.zeros_like(ids)}
    (logits, prompt, count, others), found = model.apply(
        {'params': params}, batch, method=functools.partial(_read, stream=stream, output=output), mutable=['cache']
    )
    widths = {name: x.shape[-1] for name, x in others.items()}
    extend = functools.partial(_extend, model, params, widths, stream=stream, output=output)
    place = Place(found['cache'], prompt, count)
    fresh = jax.eval_shape(lambda place, ids: extend(place, ids)[1], place, ids[:, 0])
    place = place.replace(cache=caches.with_room(place.cache, fresh, length - 1))

    def step(place: Place, ids: Int[Array, 'r']) -> tuple[Float[Array, 'r v'], Place]:
        logits, fresh = extend(place, ids)
        # A row that has ended may be asked on while others write: it stays where there are positions.
        position = jnp.minimum(place.position + 1, length - 1)
        return logits, Place(caches.written(place.cache, fresh), position, place.count + 1)

    def widen(place: Place, k: int) -> Place:
        at = repeat(jnp.arange(len(place.position)), 'b -> (b k)', k=k)
        return Place(caches.rows(place.cache, at), place.position[at], place.count[at])

    def pick(place: Place, at: Int[Array, 'r']) -> Place:  # what does not grow is the same in all texts of an example
        cache = caches.growing(place.cache, fresh, lambda part: caches.rows(part, at))
        return Place(cache, place.position[at], place.count[at])

    return Begun(logits, prompt, place, Writer(step, widen, pick))


def _read(model: Model, batch: Batch, *, stream: str, output: str) -> tuple[Array, Array, Array, dict[str, Array]]:
    encoded = model.encode(batch)
    own = encoded[stream]
    prompt = own.mask.sum(axis=1, dtype=jnp.int32)
    last = jnp.maximum(prompt - 1, 0)[:, None]
    fused = model.fusion(encoded, train=False)
    end = jax.tree.map(lambda x: jax.vmap(lambda row, at: row[at])(x, last), fused.streams[stream])
    logits = model.decoders[output](encoded, fused.replace(streams={**fused.streams, stream: end}), train=False)
    count = jnp.take_along_axis(jnp.cumsum(own.causal, axis=1), last, axis=1)
    others = {name: x.values[:0] for name, x in encoded.items() if name != stream}
    return logits[:, 0], prompt, count[:, 0] + 1, others


def _extend(
    model: Model,
    params: Any,
    widths: Mapping[str, int],
    place: Place,
    ids: Int[Array, 'r'],
    *,
    stream: str,
    output: str,
) -> tuple[Float[Array, 'r v'], Any]:
    """One more token of `stream`; nothing is added to the others, which are in the cache and of these widths."""

    def add(model: Model) -> Float[Array, 'r v']:
        marks = {'positions': place.position[:, None], 'causal': place.count[:, None]}
        own = model.encoders[stream](ids[:, None], jnp.ones(ids.shape, bool), train=False, **marks)
        nothing = jnp.zeros((*ids.shape, 0), bool)
        mods = {
            name: Tokens.of(jnp.zeros((*nothing.shape, width), own.values.dtype), nothing)
            for name, width in widths.items()
        }
        mods = {name: own if name == stream else mods[name] for name in model.encoders}
        return model.decoders[output](mods, model.fusion(mods, train=False), train=False)[:, 0]

    logits, added = model.apply({'params': params, 'cache': place.cache}, method=add, mutable=['fresh'])
    return logits, added['fresh']
