"""Routed experts: early fusion in which each token is given to a few of many MLPs, whatever its modality."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.fusion.base import join
from mmjax.fusion.early import Early
from mmjax.nn.block import Block, residual
from mmjax.nn.experts import MixtureOfExperts
from mmjax.types import ROUTING, Fused, Tokens, split


class Routed(Early):
    """LIMoE (Mustafa et al. 2022, section 2): `Early` with a mixture of experts in place of every MLP.

    One router serves all modalities; which expert is whose is learned, pushed by losses of each modality that
    `objectives.routing` takes from `aux['router']` [b l modalities 4 e] (see `types.ROUTING`; in the order of the
    modalities' names) through the decoder `Aux`. Without them a mixture tends to leave most of its experts unused.
    block.mlp: the form of an expert. top_k: experts a token is given to; the FLOPs are those of `Early` with MLPs
    `top_k` times as wide, and the router's, however many experts there are.
    """

    experts: int = 8
    top_k: int = 2

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        self.check_pre_norm()
        mods = self.enter(mods)
        x = join(self.mark({name: self._typed(name, tokens) for name, tokens in mods.items()}))
        lengths = tuple(tokens.mask.shape[1] for tokens in mods.values())
        told = jnp.zeros((x.mask.shape[0], self.depth, len(mods), len(ROUTING), self.experts))
        layer = _Routed(self.block, self.experts, self.top_k, lengths, name='layers')
        carry = {'x': x, 'router': told, 'layer': jnp.zeros((), jnp.int32)}
        carry = self.repeated(layer, carry, train=train)
        return Fused(split(carry['x'], like=mods), aux={'router': carry['router']})


class _Routed(nn.Module):
    block: Block
    experts: int
    top_k: int
    lengths: tuple[int, ...]

    @nn.compact
    def __call__(self, carry: dict[str, Any], *, train: bool) -> dict[str, Any]:
        block, x = self.block, carry['x']
        normed = x.replace(values=block.norm.copy(name='norm_attention')(x.values))
        x = residual(x, block.attention.copy(name='attend')(normed, normed), block.dropout, train=train)
        normed = x.replace(values=block.norm.copy(name='norm_mlp')(x.values))
        y, told = MixtureOfExperts(block.mlp, self.experts, self.top_k, name='mixture')(normed, self.lengths)
        router = carry['router'].at[:, carry['layer']].set(told)
        return {'x': residual(x, y, block.dropout, train=train), 'router': router, 'layer': carry['layer'] + 1}
