"""A learned array with logical axes."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
from jaxtyping import Array, Float

NORMAL = nn.initializers.normal(0.02)  # of embeddings and learned tokens


def parameter(
    module: nn.Module,
    name: str,
    shape: Sequence[int],
    axes: Sequence[str | None],
    init: nn.initializers.Initializer = NORMAL,
) -> Float[Array, '...']:
    """A parameter of a compact method. axes: a logical name (see `sharding.TABLE`) for each dimension of `shape`."""
    return cast(Array, module.param(name, nn.with_logical_partitioning(init, tuple(axes)), tuple(shape)))
