"""The interaction module of the articles behind this project, as it is written there."""

from collections.abc import Mapping, Sequence
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.fusion.base import Flow, Fusion, everyone
from mmjax.fusion.late import Towers
from mmjax.nn.block import Block
from mmjax.nn.dense import Dense
from mmjax.types import Fused, Tokens, masked_mean


class ScalarInteraction(Fusion):
    """Y_m = w Z_m with one number a row for all modalities: w = tanh(W_2 tanh(W_1 [mean(Z_1); …; mean(Z_M)])).

    Its weakness: no content crosses. Every stream is rescaled by the same number, which a norm in the read-out takes
    out again, all but its sign. It is here to be compared with, not to be used. hidden_width: of the MLP. depth: blocks
    of each modality's tower before it. `aux['weight']` [b].
    """

    hidden_width: int = 64
    depth: int = 0
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        towers = Towers(self.depth, self.block, self.remat, self.unroll, name='towers')
        streams = towers(self.enter(mods), train=train)
        weight = self._weight(jnp.concatenate([masked_mean(x) for x in streams.values()], axis=-1))
        scaled = {name: x.replace(values=x.values * weight[:, None, None]) for name, x in streams.items()}
        return Fused(scaled, aux={'weight': weight})

    def _weight(self, vectors: Float[Array, 'b d']) -> Float[Array, 'b']:
        y = jnp.tanh(Dense((self.hidden_width,), ('embed', 'mlp'), name='hidden')(vectors))
        return jnp.tanh(Dense((1,), ('mlp', 'classes'), name='weight')(y))[:, 0]

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities, start=self.depth)
