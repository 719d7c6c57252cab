"""Scores of logits that are computed part by part, so that those of a large vocabulary are never there at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from mmjax.sharding import constrain
from mmjax.sharding.mapped import here
from mmjax.types import Deferred


def by_parts(score: Callable[[Array, Array], Array], deferred: Deferred, ids: Int[Array, 'b n']) -> Float[Array, 'b n']:
    """`score(logits [b m v], ids [b m]) -> [b m]` of all tokens, with the logits of one part of them at a time, which
    the backward pass computes again. Logits are float32 and cut by `vocab` as those of `TokenLogits`. Where the kernel
    is cut over devices each part collects it and sends its gradient: take no more parts than memory asks for.
    """
    n = ids.shape[1]
    parts = next(p for p in range(min(deferred.parts, n), 0, -1) if n % (p * here().parts('length')) == 0)

    @jax.checkpoint
    def one(part: tuple[Array, Array]) -> Array:
        values, ids = part
        values = constrain(values, 'batch', 'length', 'embed').astype(deferred.kernel.dtype)
        logits = values @ deferred.kernel
        logits = logits if deferred.bias is None else logits + deferred.bias
        return score(constrain(logits.astype(jnp.float32), 'batch', 'length', 'vocab'), ids)

    # Strided, so that a part has its share of the tokens of every device.
    cut = tuple(rearrange(x, 'b (n parts) ... -> parts b n ...', parts=parts) for x in (deferred.values, ids))
    return rearrange(jax.lax.map(one, cut), 'parts b n -> b (n parts)')
