"""The order of devices along the axes of a mesh, which decides what XLA makes of a gather over several axes."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


def in_order(mesh: np.ndarray) -> np.ndarray:
    """The same devices along each axis, in an order in which the coordinates of all count up like the digits of one
    number, the last dimension of the mesh the fastest; as they are where there is no such order, or no coordinates.

    Where two axes take parts of one side of the torus, JAX's own order has those parts apart. Then XLA (libtpu 0.0.52)
    does not gather over both axes at once, but fills up with zeros and sums, which sends twice as much.
    """
    if getattr(mesh.flat[0], 'coords', None) is None:
        return mesh
    orders = list(itertools.permutations(range(len(mesh.flat[0].coords))))
    if any(_counts_up(mesh, order) for order in orders):
        return mesh
    return next((found for order in orders if _counts_up(found := _sorted(mesh, order), order)), mesh)


def _digits(device: Any, order: Sequence[int]) -> tuple[int, ...]:
    return *(device.coords[d] for d in order), getattr(device, 'core_on_chip', 0)


def _counts_up(mesh: np.ndarray, order: Sequence[int]) -> bool:
    digits = [_digits(device, order) for device in mesh.flat]
    return digits == sorted(digits)


def _sorted(mesh: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Each axis by the coordinates of its devices."""
    for axis in range(mesh.ndim):
        line = np.moveaxis(mesh, axis, 0)[(slice(None), *(0,) * (mesh.ndim - 1))]
        mesh = mesh.take(sorted(range(len(line)), key=lambda i: _digits(line[i], order)), axis=axis)
    return mesh
