"""A small config, for the tests of mmjax/config: modules, dataclasses, dicts, tuples and plain values."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import flax.linen as nn
import jax

from mmjax import config

HERE = __name__.split('.')[0]  # the package that a dump of these classes must trust


class Mixer(nn.Module):
    """Base of the mixers."""


class Plain(Mixer):
    """Mixes nothing.

    width: of a token.
    """

    width: int = 8
    rate: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width)(x)


class FewTokens(Mixer):
    """Mixes through a few."""

    num_tokens: int
    width: int = 16
    inner: Plain = field(default_factory=Plain)


class _Hidden(Mixer):
    """Of no concern to a user."""


class Net(nn.Module):
    mixer: Mixer
    towers: dict[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True)
class Crop:
    size: int = 32


@dataclass(frozen=True)
class Flip:
    probability: float = 0.5


@dataclass(frozen=True)
class Settings:
    """Decides a run.

    steps: how many updates. seed: of everything.
    """

    net: Net = field(default_factory=lambda: Net(Plain(), towers={'image': Plain(), 'text': Plain(width=9)}))
    steps: int = 100
    seed: int = 0
    lr: float = 1e-3  # peak of the schedule
    ema: float | None = None
    name: str = 'x'
    verbose: bool = False
    kind: Literal['a', 'b'] = 'a'
    betas: tuple[float, float] = (0.9, 0.99)
    transforms: tuple[Crop | Flip, ...] = (Crop(), Flip())
    scores: dict[str, float] = field(default_factory=lambda: {'top_1': 0.5})
    crop: Crop | None = None


@dataclass(frozen=True)
class Grown:
    """A class to which `depth` was added after runs had been made without it."""

    width: int = 3
    depth: int = field(default=12, metadata={'old': 6})


@dataclass(frozen=True)
class Holder:
    value: Any


@dataclass(frozen=True)
class Picky:
    number: int = 2

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError('even numbers only')


def reload(obj: Any) -> Any:
    return config.load(json.loads(json.dumps(config.dump(obj))), trust=(HERE,))
