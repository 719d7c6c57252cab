"""What every view is."""

from dataclasses import dataclass

import jax
from jaxtyping import Array

from mmjax.errors import check_field
from mmjax.types import Batch


@dataclass(frozen=True)
class View:
    """A transform of a whole batch on the device: which modalities it has, whose they are, how clean.

    Frozen and hashable: objectives with equal views share one pass of the model.
    """

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch as it is seen; draws come from `key`, and are those of the whole batch on any mesh.

        Fields keep their names, shapes and dtypes. A view may add some, such as what it has taken away.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Clean(View):
    """The batch as it is."""

    def __call__(self, batch: Batch, key: jax.Array) -> Batch:
        return batch


CLEAN = Clean()


def field_of(batch: Batch, name: str) -> Array:
    """A field of the batch.

    Raises:
        UserError: where it has none of that name.
    """
    check_field(name, batch, asker='view')
    return batch[name]


def entries_of(batch: Batch, name: str) -> dict[str, Array]:
    """A field, and whatever else the batch says of it: `name` and `name/…`. Raises UserError as `field_of` does."""
    return {name: field_of(batch, name)} | {key: x for key, x in batch.items() if key.startswith(f'{name}/')}
