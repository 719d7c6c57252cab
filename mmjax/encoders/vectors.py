"""Vectors to tokens, one each: objects of a scene, features of image regions, points."""

from dataclasses import field

import flax.linen as nn
from einops import repeat
from jaxtyping import Array, Bool, Float

from mmjax.encoders.base import Encoder
from mmjax.nn.dense import Dense
from mmjax.nn.positions import NoPositions, Positions
from mmjax.types import Tokens


class VectorEncoder(Encoder):
    """One linear layer on each of N vectors. Without positions, the default, they are a set: their order is not seen.

    width: of a token.
    """

    width: int = 128
    positions: Positions = field(default_factory=NoPositions)

    @nn.compact
    def __call__(self, x: Float[Array, 'b n f'], present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        values = Dense((self.width,), ('channels', 'embed'), name='project')(x)
        values = self.positions.copy(name='place')(values, (x.shape[1],))
        return Tokens.of(values, repeat(present, 'b -> b n', n=x.shape[1]))
