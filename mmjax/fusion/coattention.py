"""Co-attention: one stream per modality, each of which reads the others in every layer."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn

from mmjax.fusion.base import Layered, join
from mmjax.nn.block import Block, residual
from mmjax.types import Fused, Tokens


class Coattention(Layered):
    """In each layer, with weights of its own, every modality a does, in this order:

        A += attention(q=norm(A), kv=norm(the tokens of all others)), from the streams as they were before the layer
        A += attention(norm(A)); A += mlp(norm(A))

    ViLBERT's co-attention (Lu et al. 2019, figure 2b) in LXMERT's order cross, self, feed-forward (Tan & Bansal 2019,
    eq. 6-8), with separate weights for each direction (LXMERT shares them).
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        layer = _CoattentionLayer(self.block, name='layers')
        return Fused(self.repeated(layer, self.enter(mods), train=train))


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
                y = self.block.attention.copy(name=f'cross_{name}')(normed[name], join(others))
                x = residual(x, y, self.block.dropout, train=train)
            streams[name] = self.block.copy(name=f'block_{name}')(x, train=train)
        return streams
