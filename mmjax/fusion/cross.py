"""Cross-attention in one direction: a stream that is written reads the others, which stay as they are."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn

from mmjax.fusion.base import Flow, Layered, join
from mmjax.nn.block import Block, residual
from mmjax.types import Fused, Tokens


class CrossAttention(Layered):
    """The decoder of Vaswani et al. 2017 (section 3.1), norms first. In each layer the stream `reader` does, in this
    order:

        x += attention(norm(x)); x += attention(q=norm(x), kv=norm(the tokens of all others)); x += mlp(norm(x))

    The others stay as they entered. These are the multimodal layers of CoCa (Yu et al. 2022, section 3.2); its unimodal
    ones are those of a causal text encoder, its poolers `Queried` around the image encoder and a pool in the decoder.
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    reader: str = 'text'

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        self.check_pre_norm()
        mods = self.enter(mods)
        layer = _Crossing(self.block, self.reader_of(mods, self.reader), name='layers')
        return Fused(self.repeated(layer, mods, train=train))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {(self.reader, other): 0 for other in modalities if other != self.reader} if self.depth else {}


class _Crossing(nn.Module):
    block: Block
    reader: str

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        block, x = self.block, mods[self.reader]
        normed = x.replace(values=block.norm.copy(name='norm_own')(x.values))
        x = residual(x, block.attention.copy(name='own')(normed, normed), block.dropout, train=train)
        others = {name: y for name, y in mods.items() if name != self.reader}
        if others:
            context = join(others)
            context = context.replace(values=block.norm.copy(name='norm_context')(context.values))
            normed = x.replace(values=block.norm.copy(name='norm_cross')(x.values))
            x = residual(x, block.attention.copy(name='cross')(normed, context), block.dropout, train=train)
        y = block.mlp.copy(name='feed_forward')(block.norm.copy(name='norm_mlp')(x.values))
        return mods | {self.reader: residual(x, y, block.dropout, train=train)}
