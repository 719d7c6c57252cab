"""Modality experts: all tokens attend to one another, weights belong to the modality."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.fusion.base import Layered, join
from mmjax.nn.attention import attend, merge, project
from mmjax.nn.block import Block, residual
from mmjax.nn.cache import remembered
from mmjax.nn.masks import reads
from mmjax.types import Fused, Tokens, split


class Experts(Layered):
    """Mixture-of-Transformers (Liang et al. 2024, algorithm 1): one attention over all tokens, all weights by modality.

    The FLOPs of `Early` with the parameters of M of it. Reference: `Mixture-of-Transformers`
    `src/simple_ModalityUntiedAttention.py`; here streams stay apart instead of being gathered by a boolean index.
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        self.check_pre_norm()
        layer, mods = self.layer(), self.enter(mods)
        return Fused(self.repeated(layer, mods, train=train))

    def layer(self) -> nn.Module:
        """The module that is repeated. Called inside the compact method."""
        return _Untied(self.block, name='layers')


class Multiway(Experts):
    """BEiT-3's multiway transformer (Wang et al. 2022, figure 2; VLMo, Bao et al. 2022): attention is shared, the
    feed-forward network and its norm belong to the modality.
    """

    def layer(self) -> nn.Module:
        return _SharedAttention(self.block, name='layers')


class _Untied(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        block, heads = self.block, {'query': [], 'key': [], 'value': []}
        for name, x in mods.items():
            normed = x.replace(values=block.norm.copy(name=f'norm_attention_{name}')(x.values))
            for kind, y in zip(heads, project(block.attention, normed, tuple(heads), prefix=f'{name}_'), strict=True):
                heads[kind].append(y)
        everything = join(mods)
        q, k, v = (jnp.concatenate(parts, axis=1) for parts in heads.values())
        key, k, v = remembered(self, everything, k, v)
        read, reading, start = attend(q, k, v, everything, key, tap=self), reads(everything, key), 0
        streams = {}
        for name, x in mods.items():
            stop = start + x.mask.shape[1]
            part, width = slice(start, stop), x.values.shape[-1]
            y = merge(block.attention, read[:, part], reading[:, part], width=width, prefix=f'{name}_')
            streams[name] = _feed_forward(block, name, residual(x, y, block.dropout, train=train), train)
            start = stop
        return streams


class _SharedAttention(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        x = join(mods)
        normed = x.replace(values=self.block.norm.copy(name='norm_attention')(x.values))
        x = residual(x, self.block.attention.copy(name='attend')(normed, normed), self.block.dropout, train=train)
        streams = split(x, like=mods)
        return {name: _feed_forward(self.block, name, y, train) for name, y in streams.items()}


def _feed_forward(block: Block, name: str, x: Tokens, train: bool) -> Tokens:
    y = block.norm.copy(name=f'norm_mlp_{name}')(x.values)
    return residual(x, block.mlp.copy(name=f'feed_forward_{name}')(y), block.dropout, train=train)
