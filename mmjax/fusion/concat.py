"""Pool each modality, concatenate, MLP: the fusion of most published two-branch classifiers."""

from collections.abc import Mapping, Sequence
from dataclasses import field

import flax.linen as nn
import jax.numpy as jnp

from mmjax.fusion.base import Flow, Fusion
from mmjax.fusion.late import Towers
from mmjax.nn.block import Block
from mmjax.nn.dense import Dense, activation
from mmjax.types import Fused, Tokens, masked_mean


class Concat(Fusion):
    """shared = MLP([mean(tower_1(Z_1)); …; mean(tower_M(Z_M))]), one token.

    hidden: widths of the MLP's layers, each followed by the activation; (): the concatenation itself, which is additive
    under a linear decoder, that is one whose `norm` is `NoNorm` (a norm of the whole lets each half scale the other).
    depth: blocks of each modality's tower before the pooling. An absent modality is a part of zeros.
    """

    hidden: tuple[int, ...] = (256,)
    activation: str = 'relu'
    depth: int = 0
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        towers = Towers(self.depth, self.block, self.remat, self.unroll, name='towers')
        streams = towers(self.enter(mods), train=train)
        y = jnp.concatenate([masked_mean(tokens) for tokens in streams.values()], axis=-1)
        for i, width in enumerate(self.hidden):
            y = activation(self.activation)(Dense((width,), ('embed', 'mlp'), name=f'mlp_{i}')(y))
        present = jnp.stack([tokens.present for tokens in streams.values()]).any(axis=0)
        return Fused(streams, shared=Tokens.of(y[:, None, :], present[:, None]))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {('shared', name): self.depth for name in modalities}
