"""A learned array with logical axes."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError
from jaxtyping import Array, Float

from mmjax.errors import UserError

NORMAL = nn.initializers.normal(0.02)  # of embeddings and learned tokens


def parameter(
    module: nn.Module,
    name: str,
    shape: Sequence[int],
    axes: Sequence[str | None],
    init: nn.initializers.Initializer = NORMAL,
) -> Float[Array, '...']:
    """A parameter of a compact method. axes: a logical name (see `sharding.TABLE`) for each dimension of `shape`.

    Raises:
        UserError: where the module was given one of another shape.
    """
    try:
        return cast(Array, module.param(name, nn.with_logical_partitioning(init, tuple(axes)), tuple(shape)))
    except ScopeParamShapeError as error:
        given = jnp.shape(nn.meta.unbox(module.get_variable('params', name)))
        raise UserError(
            f'{"/".join(module.path)}/{name}: the weights given have shape {list(given)}, this config and these inputs '
            f'need {list(shape)}'
        ) from error
