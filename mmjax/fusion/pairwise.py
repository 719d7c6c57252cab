"""Directional pairwise cross-modal transformers."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.errors import UserError
from mmjax.fusion.base import Flow, Fusion, everyone
from mmjax.nn.block import Block, Stack, repeat
from mmjax.nn.dense import Dense
from mmjax.types import Fused, Tokens


class Pairwise(Fusion):
    """MulT (Tsai et al. 2019, eq. 1-4). For each ordered pair, Z_{b->a} is a transformer of `depth` layers in which the
    tokens of a read those of b, each layer the original ones; then, for each a,

        Y_a = W_a tower_a([Z_{b->a} for all b], joined along the width)

    with `tower_depth` layers in tower_a, whose width is (M - 1) times that of a token. W_a brings it back, so that
    streams keep their width (with two modalities there is none, and MulT itself reads the last element of each tower
    instead). An absent b gives a nothing to read: that part is the transformer on a's tokens alone. Reference:
    `Multimodal-Transformer` `src/models.py`.
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    depth: int = 2
    tower_depth: int = 2
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        mods = self.enter(mods)
        if len(mods) < 2:
            raise UserError(f'pairwise: joins pairs of modalities, and the model has {sorted(mods)} only')
        return Fused({name: self._read_all(name, mods, train) for name in mods})

    def _read_all(self, name: str, mods: Mapping[str, Tokens], train: bool) -> Tokens:
        x, parts = mods[name], []
        for other, y in mods.items():
            if other != name:
                layer = _Read(self.block, name=f'{name}_from_{other}')
                depth, options = self.depth, {'train': train, 'remat': self.remat, 'unroll': self.unroll}
                read, _ = repeat(layer, (x, y), depth=depth, **options)
                parts.append(read.values)
        joined = x.replace(values=jnp.concatenate(parts, axis=-1))
        joined = Stack(self.block, self.tower_depth, self.remat, self.unroll, name=f'tower_{name}')(joined, train=train)
        if len(parts) > 1:
            out = Dense((x.values.shape[-1],), ('mlp', 'embed'), name=f'out_{name}')
            joined = joined.replace(values=out(joined.values))
        return joined

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities) if self.depth else {}


class _Read(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, carry: tuple[Tokens, Tokens], *, train: bool) -> tuple[Tokens, Tokens]:
        x, memory = carry
        return self.block.copy(name='block')(x, train=train, context=memory), memory
