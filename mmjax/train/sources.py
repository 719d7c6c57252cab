"""What a step tells of its batch by source and by modality."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.experiment import Experiment
from mmjax.types import Batch

Scalars = dict[str, Float[Array, '']]


def source_names(experiment: Experiment, batch: Batch) -> list[str]:
    """The sources of a mixture in the order of their numbers in `source`; none where the data are no mixture."""
    names = list(experiment.data.parts)
    return names if 'source' in batch and names != [''] else []


def sums_by_source(experiment: Experiment, batch: Batch, values: Float[Array, 'b'], *, prefix: str = '') -> Scalars:
    """`PREFIXsource`: the sum over the rows of each source of a mixture."""
    return {
        f'{prefix}{name}': jnp.where(batch['source'] == number, values, 0).sum()
        for number, name in enumerate(source_names(experiment, batch))
    }


def mean_or_nan(part: Float[Array, ''], total: Float[Array, '']) -> Float[Array, '']:
    """part / total, NaN where there is nothing; of the parts of a batch, what sums to that of the batch."""
    return jnp.where(total > 0, part / jnp.maximum(total, 1e-6), jnp.nan)


def token_shares(experiment: Experiment, params: Any, batch: Batch) -> Scalars:
    """Of a mixture and of packed rows: of all tokens of the batch, those of each modality (`tokens/MODALITY`) and of
    each source (`tokens_of/SOURCE`); of the places of a packed modality, those that hold a token (`fill/MODALITY`).

    The encoders say which tokens are real. What they compute beside their masks is used by nobody, and the compiler
    leaves it out.
    """
    packed = [name for name in experiment.model.inputs if f'{name}/segments' in batch]
    if not source_names(experiment, batch) and not packed:
        return {}
    encoded: Any = experiment.model.apply({'params': params}, batch, method='encode')
    masks = {name: encoded[name].mask for name in experiment.model.inputs}
    counts = {name: mask.sum(axis=1).astype(jnp.float32) for name, mask in masks.items()}
    of_rows = jnp.stack(list(counts.values())).sum(axis=0)
    total = jnp.maximum(of_rows.sum(), 1)
    return {
        **{f'tokens/{name}': count.sum() / total for name, count in counts.items()},
        **{f'tokens_of/{name}': count / total for name, count in sums_by_source(experiment, batch, of_rows).items()},
        **{f'fill/{name}': masks[name].mean() for name in packed},
    }
