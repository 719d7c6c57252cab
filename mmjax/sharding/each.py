"""What each device holds, replicas among it, which no sharded program tells apart."""

from collections.abc import Callable, Mapping

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def on_each_device(
    function: Callable[[Mapping[str, Array]], Array], arrays: Mapping[str, jax.Array]
) -> Callable[[Mapping[str, jax.Array]], jax.Array]:
    """A compiled program that calls `function` on each device of a mesh with the parts of the arrays that it holds, and
    gives the results of all to all: [devices, …], in the order of `mesh.devices`. arrays: say where such arrays live.
    """
    shardings = {name: x.sharding for name, x in arrays.items()}
    mesh = next(iter(shardings.values())).mesh  # pyright: ignore[reportAttributeAccessIssue]
    specs = {name: sharding.spec for name, sharding in shardings.items()}  # pyright: ignore[reportAttributeAccessIssue]

    def here(parts: Mapping[str, Array]) -> Array:
        return jax.lax.all_gather(function(parts), mesh.axis_names)

    return jax.jit(jax.shard_map(here, mesh=mesh, in_specs=(specs,), out_specs=PartitionSpec(), check_vma=False))
