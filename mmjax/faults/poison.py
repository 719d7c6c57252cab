"""Numbers that go wrong on purpose: in gradients, in losses, in the memory of a device."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jaxtyping import Array, Float

from mmjax.balance.base import Balance, Tally
from mmjax.data import train_batches
from mmjax.experiment import Experiment
from mmjax.objectives.base import Objective
from mmjax.paths import flat, nested
from mmjax.train import loop
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Poison(Balance):
    """Gradients of some steps, counted from 1. where: 'leaf', one array is `value`; 'shard', its first number, which
    one part of the devices holds, is; 'all', every gradient is `value` times as large.
    """

    steps: tuple[int, ...]
    value: str = 'nan'
    where: str = 'leaf'

    def tally(self, outputs: Outputs, batch: Batch) -> Tally:
        return {}

    def __call__(self, grads: Any, tally: Tally, *, key: jax.Array, step: Array) -> tuple[Any, dict[str, Array]]:
        now, value, leaves = jnp.isin(step + 1, jnp.asarray(self.steps, jnp.int32)), float(self.value), flat(grads)
        if self.where == 'all':
            return jax.tree.map(lambda x: jnp.where(now, value * x, x), grads), {}
        path = next(path for path in leaves if path.endswith('up/kernel'))
        x = leaves[path]
        wrong = jnp.full_like(x, value) if self.where == 'leaf' else x.at[(0,) * x.ndim].set(value)
        return nested(leaves | {path: jnp.where(now, wrong, x)}), {}


@dataclass(frozen=True)
class Broken(Objective):
    """A loss that is `value` for the batches with these `marks`, else zero; has no gradient."""

    marks: tuple[int, ...] = ()
    value: str = 'nan'

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, ' b']:
        index = batch['index']
        mark = jnp.sum(index * (1 + jnp.arange(index.size)))
        broken = jnp.isin(mark, jnp.asarray(self.marks, jnp.int32))
        return jnp.full(index.shape, jnp.where(broken, float(self.value), 0.0), jnp.float32)


def marks(of: Experiment, steps: Sequence[int]) -> tuple[int, ...]:
    """Of the batches of these steps, counted from 1."""
    found = []
    for step in steps:
        batches = train_batches(of.data, batch_size=of.batch_size, seed=of.seed, start=step - 1)
        index = next(batches)['index']
        batches.close()
        found.append(int(np.sum(index * (1 + np.arange(index.size)))))
    return tuple(found)


def flip(x: jax.Array, *, device: int, bit: int) -> None:
    """Flips a bit of what a device of this machine's processors holds of an array, where it lies in memory."""
    part: Any = next(shard.data for shard in x.addressable_shards if shard.device.id == device)
    jax.block_until_ready(x)
    byte = ctypes.c_ubyte.from_address(part.unsafe_buffer_pointer() + bit // 8 % part.nbytes)
    byte.value ^= 1 << bit % 8


@contextmanager
def flipping(path: str, *, before: int, device: int, bit: int) -> Iterator[None]:
    """In a run that is trained meanwhile, flips a bit of the array with this path in `TrainState`, once, while the loop
    waits for the batch of the step `before`.
    """
    held, times, make = [], [0], loop.step_program

    def program(*given: Any) -> Any:
        step = make(*given)

        def stepped(*given: Any) -> Any:
            held[:] = [step(*given)]
            return held[0]

        return stepped

    def place(name: str) -> None:
        if name == 'loop/batch':
            times[0] += 1
            if times[0] == before:
                part, _, rest = path.partition('/')
                flip(flat(serialization.to_state_dict(getattr(held[0][0], part)))[rest], device=device, bit=bit)

    with mock.patch.object(loop, 'step_program', program), mock.patch.object(loop, 'failpoint', place):
        yield
