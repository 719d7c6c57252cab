"""Bits that changed in the memory of a device: found before they are saved, and named.

Two things are known of a sound state. What several devices hold copies of is the same on all of them: a bit that
flips in one copy of a parameter stays another there, as the updates are the same on all. And while nothing is computed
nothing changes: sums over the words of what each device holds, taken once a step is done and again when the state has
been evaluated and is saved (with `guard.verify='steps'` also before each next step), agree, also of what there is one
copy of, as parts of an optimiser.

Not found are bits that flip while a step computes, such as those of a gradient, which all devices are given alike: that
takes a second computation; between two steps, in what has no copy, unless every step is verified; in what was read from
memory before; and a flip in a copy whose small difference the next update rounds away.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jaxtyping import Array, UInt32

from mmjax.errors import UserError
from mmjax.paths import flat
from mmjax.sharding.each import on_each_device
from mmjax.train.digests import bits_of

NAMED = 4  # arrays that a message names


class Flipped(UserError):
    """Memory of a device holds other bits than were written there."""


class Memory:
    """Looks at the state of a run. verify: see `Guard`."""

    def __init__(self, verify: str):
        self.every_step, self._saves = verify == 'steps', bool(verify)
        self._sums: Any = None
        self._left: jax.Array | None = None

    def leave(self, state: Any, *, saves: bool) -> None:
        """After a step. saves: whether it is saved once it has been evaluated."""
        self._left = self._summed(state) if self.every_step or (saves and self._saves) else None

    def check(self, state: Any, *, copies: bool) -> None:
        """Raises Flipped where the state is not what it was left as, or, if copies are looked at, two of them differ.
        All processes of a group come here, and find the same.
        """
        if not self._saves or (self._left is None and not copies):
            return
        arrays = _arrays(state)
        if self._left is None and all(len(x.sharding.device_set) == 1 for x in arrays.values()):
            return
        now = np.asarray(self._summed(state))
        if self._left is not None:
            changed = np.asarray(self._left) != now
            _tell([(path, device) for path, device in _places(arrays, changed)], 'changed in the memory of')
        if copies:
            odd = np.stack([_odd(x, now[:, i]) for i, x in enumerate(arrays.values())], axis=1)
            _tell([(path, device) for path, device in _places(arrays, odd)], 'has other bits than its copies on')

    def _summed(self, state: Any) -> jax.Array:
        """[devices, leaves]"""
        arrays = _arrays(state)
        self._sums = self._sums or on_each_device(_sums, arrays)
        return self._sums(arrays)


def _arrays(state: Any) -> dict[str, Any]:
    leaves = flat(serialization.to_state_dict(state))
    return {path: leaves[path] for path in sorted(leaves) if hasattr(leaves[path], 'dtype')}


def _sums(parts: Mapping[str, Array]) -> UInt32[Array, ' leaves']:
    return jnp.stack([_sum(parts[path]) for path in sorted(parts)])


def _sum(x: Array) -> UInt32[Array, '']:
    """Modulo 2**32, each word with an odd factor made of its place: one flipped bit always changes it."""
    x = jnp.ravel(bits_of(x))
    return jnp.sum(x * (2 * jnp.arange(x.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)


def _odd(x: jax.Array, sums: np.ndarray) -> np.ndarray:
    """Which devices hold something else than most that have a copy of the same part; all where none are most."""
    where = x.sharding.devices_indices_map(x.shape)
    devices = list(_devices(x))
    groups: dict[str, list[int]] = {}
    for i, device in enumerate(devices):
        groups.setdefault(str(where[device]), []).append(i)
    odd = np.zeros(len(devices), bool)
    for group in groups.values():
        (most, times), *_ = Counter(sums[group].tolist()).most_common(1)
        odd[group] = sums[group] != most if 2 * times > len(group) else True
    return odd


def _devices(x: jax.Array) -> Any:
    return x.sharding.mesh.devices.flat  # pyright: ignore[reportAttributeAccessIssue]


def _places(arrays: Mapping[str, Any], found: np.ndarray) -> Any:
    """found: [devices, leaves]"""
    for leaf, (path, x) in enumerate(arrays.items()):
        for number, device in enumerate(_devices(x)):
            if found[number, leaf]:
                yield path, device


def _tell(places: list[tuple[str, Any]], what: str) -> None:
    if places:
        paths = sorted(dict.fromkeys(path for path, _ in places), key=lambda path: not path.startswith('params/'))
        devices = ', '.join(str(number) for number in sorted({device.id for _, device in places}))
        more = f' and {len(paths) - NAMED} more arrays' if len(paths) > NAMED else ''
        raise Flipped(
            f'{", ".join(paths[:NAMED])}{more} {what} device {devices}: not saved; the same command goes on from the '
            'last checkpoint, if possible without that device'
        )
