"""Which part of all pairs of a query and a key the attention kernels of a model go through: they leave out blocks of
pairs that no query may read, and which these are follows from the data's masks, not from the compiled program.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from mmjax.experiment import Experiment
from mmjax.nn.splash import padded_length, read_share
from mmjax.sharding import AnyMesh
from mmjax.train.passes import Views
from mmjax.train.prepare import example
from mmjax.types import Batch, Tokens, concatenate

Share = Callable[[int, int], float]


def every_pair(queries: int, keys: int) -> float:
    """Where nothing is left out."""
    return 1.0


def share_of(experiment: Experiment, params: Any, *, mesh: AnyMesh) -> Share:
    """The share, by the numbers of queries and of keys that a kernel has on one device.

    Known of tokens that read one another: those of each encoder, and those of all of them one after another, as the
    first example of the data marks them. Where several have the same numbers, of those that read most; of any other
    kernel 1: every query with every key.

    params: abstract. Where the mesh cuts lengths, the share is that of the device that has to read most.
    """
    parts = mesh.shape['sequence']
    found: dict[tuple[int, int], float] = {}
    batch = {name: jnp.asarray(x) for name, x in example(experiment).items()}
    key = jax.random.key(0)
    for view in Views.of(experiment).plain:
        streams = masks_of(experiment, params, view(batch, key))
        for tokens in [*streams.values(), concatenate(streams)] if streams else []:
            n = tokens.mask.shape[1]
            if n % parts:
                continue
            size = padded_length(n // parts), padded_length(n)
            found[size] = max(found.get(size, 0.0), read_share(tokens, parts=parts))
    return lambda queries, keys: found.get((queries, keys), 1.0)


def masks_of(experiment: Experiment, params: Any, batch: Batch) -> dict[str, Tokens]:
    """The encoders' tokens for a batch, of width 0: without their values nothing of the parameters is needed. {} where
    a mask depends on parameters after all.
    """

    def marks(params: Any, batch: Batch) -> dict[str, Tokens]:
        tokens = experiment.model.apply({'params': params}, batch, method='encode')
        return {name: x.replace(values=jnp.zeros((*x.mask.shape, 0))) for name, x in tokens.items()}

    traced, shapes = jax.make_jaxpr(marks, return_shape=True)(params, batch)
    kept, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    count = len(jax.tree.leaves(params))
    if any(used[:count]):
        return {}
    given = [x for x, is_used in zip(jax.tree.leaves(batch), used[count:], strict=True) if is_used]
    outputs = jax.core.eval_jaxpr(kept, traced.consts, *given)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)
