"""Co-attention: one stream per modality, each of which reads the others in every layer."""

from collections.abc import Mapping, Sequence
from dataclasses import field

import flax.linen as nn

from mmjax.fusion.base import Flow, Fusion, everyone
from mmjax.nn.block import Block, repeat, residual
from mmjax.types import Fused, Tokens, concatenate


class Coattention(Fusion):
    """In each layer, with weights of its own, every modality a does, in this order:

        A += attention(q=norm(A), kv=norm(the tokens of all others)), from the streams as they were before the layer
        A += attention(norm(A)); A += mlp(norm(A))

    ViLBERT's co-attention (Lu et al. 2019, figure 2b) in LXMERT's order cross, self, feed-forward (Tan & Bansal 2019,
    eq. 6-8), with separate weights for each direction (LXMERT shares them).
    """

    depth: int = 4
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        layer = _CoattentionLayer(self.block, name='layers')
        mods = repeat(layer, self.enter(mods), depth=self.depth, train=train, remat=self.remat, unroll=self.unroll)
        return Fused(mods)

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities) if self.depth else {}


class _CoattentionLayer(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        normed = {
            name: x.replace(values=self.block.norm.copy(name=f'norm_cross_{name}')(x.values))
            for name, x in mods.items()
        }
        streams = {}
        for name, x in mods.items():
            others = {other: y for other, y in normed.items() if other != name}
            if others:
                y = self.block.attention.copy(name=f'cross_{name}')(normed[name], concatenate(others))
                x = residual(x, y, self.block.dropout, train=train)
            streams[name] = self.block.copy(name=f'block_{name}')(x, train=train)
        return streams
