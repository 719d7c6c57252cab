"""Gated cross-attention: one stream reads the others through gates that start shut."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.fusion.base import Flow, Fusion, join
from mmjax.nn.block import Block, repeat, residual
from mmjax.nn.cache import remembered
from mmjax.nn.masks import reads
from mmjax.nn.parameter import parameter
from mmjax.types import Fused, Tokens


class GatedCrossAttention(Fusion):
    """Flamingo (Alayrac et al. 2022, figure 4). In each layer the stream `reader` does, in this order:

        x += tanh(a) attention(q=norm(x), kv=norm(the tokens of all others))
        x += tanh(b) mlp(norm(x))
        x = block(x)

    The gates a and b start at 0, so that a fresh design is the reader's own tower, bit for bit. They are called `gate`,
    which no weight decay pulls back. The others stay as they entered. Reference: `open_flamingo/src/helpers.py`.
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    reader: str = 'text'
    depth: int = 4
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        mods = self.enter(mods)
        layer = _Gated(self.block, self.reader_of(mods, self.reader), name='layers')
        return Fused(repeat(layer, mods, depth=self.depth, train=train, remat=self.remat, unroll=self.unroll))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {(self.reader, other): 0 for other in modalities if other != self.reader} if self.depth else {}


class _Reads(nn.Module):
    """Which queries may read any key at all, those of earlier calls included (`nn/cache.py`)."""

    @nn.compact
    def __call__(self, query: Tokens, key: Tokens) -> Bool[Array, 'b n']:
        nothing = key.values[:, :, None, :0]
        return reads(query, remembered(self, key, nothing, nothing)[0])


class _Gated(nn.Module):
    block: Block
    reader: str

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        block, x = self.block, mods[self.reader]
        others = {name: y for name, y in mods.items() if name != self.reader}
        if others:
            norm = block.norm.copy(name='norm_cross')
            context = join(others)
            context = context.replace(values=block.norm.copy(name='norm_context')(context.values))
            y = block.attention.copy(name='cross')(x.replace(values=norm(x.values)), context)
            x = residual(x, self._gate('attention', y.dtype) * y, block.dropout, train=train)
            y = block.mlp.copy(name='cross_mlp')(block.norm.copy(name='norm_cross_mlp')(x.values))
            reads = _Reads(name='reads')(x, context)[:, :, None]  # with nothing to read this half is absent too
            x = residual(x, jnp.where(reads, self._gate('mlp', y.dtype) * y, 0), block.dropout, train=train)
        return mods | {self.reader: block.copy(name='own')(x, train=train)}

    def _gate(self, name: str, dtype: jnp.dtype) -> Float[Array, '1']:
        return jnp.tanh(parameter(self, f'gate_{name}', (1,), (None,), nn.initializers.zeros).astype(dtype))
