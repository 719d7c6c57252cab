"""Which examples of a split belong together, as questions about one image do."""

import dataclasses

import numpy as np
from jaxtyping import Int

from mmjax.data import Data, Tfds
from mmjax.errors import UserError


def clusters_of(data: Data, field: str, *, asker: str) -> Int[np.ndarray, 'examples']:
    """The cluster of every example of a split, in its order: what its `field` says; '': each is one of its own.

    Raises:
        UserError: in the name of `asker`, where the source is not a `Tfds`, of which any field can be read, or the
            field is no whole number.
    """
    source = data.source
    if not field:
        return np.arange(len(source.open()))
    if not isinstance(source, Tfds):
        raise UserError(f"{asker}: clusters by '{field}' are read from a Tfds source, not a {type(source).__name__}")
    reader = dataclasses.replace(source, fields={'cluster': field}).open()
    found = np.array([example['cluster'] for example in reader.read(range(len(reader)))])
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        told = f'{found.dtype} {list(found.shape[1:])}'
        raise UserError(f"{asker}: '{field}' is {told}; a whole number tells which cluster an example is of")
    return found
