"""The function that is explained: from the encoders' tokens to the score of one class. In float32, without draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.errors import UserError, nearest
from mmjax.model import Model
from mmjax.types import Batch, Tokens

Encoded = Mapping[str, Tokens]
Scores = Mapping[str, Float[Array, 'b _n']]  # of each modality's tokens


def encode(model: Model, params: Any, batch: Batch) -> dict[str, Tokens]:
    """Z_m: the tokens of every encoder."""
    return jax.jit(lambda params, batch: model.apply({'params': params}, batch, method='encode'))(params, batch)


def fuse_and_decode(model: Model, variables: Any, encoded: Encoded, **options: Any) -> Any:
    """What `Model` does after its encoders. options: of `flax.linen.Module.apply`."""
    return model.apply(variables, dict(encoded), method='answer', **options)


def the_output(model: Model, name: str | None) -> str:
    """The name of the decoder that is explained: the only one, where none is named.

    Raises:
        UserError: on a decoder that the model does not have, or none named where it has several.
    """
    decoders = sorted(model.decoders)
    if name is None and len(decoders) == 1:
        return decoders[0]
    if name is None:
        raise UserError(f'output: the model has the decoders {decoders}; name one')
    if name not in model.decoders:
        raise UserError(f"output: no decoder '{name}'{nearest(name, decoders)} (the model has {decoders})")
    return name


def of_target(scores: Float[Array, 'b c'], target: Int[Array, 'b']) -> Float[Array, 'b']:
    return jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]


def predicted(model: Model, params: Any, encoded: Encoded, *, output: str) -> Int[Array, 'b']:
    """The class of each example that the model gives the highest logit."""
    run = jax.jit(lambda params, encoded: fuse_and_decode(model, {'params': params}, encoded)[output].argmax(axis=-1))
    return run(params, dict(encoded))


def lengths(encoded: Encoded, names: Sequence[str] | None = None) -> dict[str, int]:
    """How many tokens each modality has, in the order in which `Fusion.enter` joins them."""
    return {name: encoded[name].mask.shape[1] for name in sorted(encoded if names is None else names)}


def cut(joined: Float[Array, 'b t'], sizes: Mapping[str, int]) -> dict[str, Float[Array, 'b _n']]:
    """Values of joined tokens, by modality."""
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = joined[:, start : start + size]
        start += size
    return parts
