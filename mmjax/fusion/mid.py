"""Mid fusion: towers first, then every modality reads all tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import flax.linen as nn

from mmjax.errors import UserError
from mmjax.fusion.base import Flow, Fusion, everyone, join
from mmjax.fusion.late import Towers
from mmjax.nn.block import Block, repeat
from mmjax.types import Fused, Tokens


class Mid(Fusion):
    """Z_m = block_m(Z_m) below layer `fusion_layer`; from it on block_m(q = Z_m, kv = the tokens of all modalities).

    MBT's fusion without bottleneck at L_f (Nagrani et al. 2021, section 3.2), weights of each modality its own. Only
    the queries of a modality run through its block: scenic's `projects/mbt/model.py` runs the whole concatenation
    through each and throws the rest away.
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    depth: int = 4
    fusion_layer: int = 2
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        if not 0 <= self.fusion_layer <= self.depth:
            raise UserError(f'fusion_layer: {self.fusion_layer} is not one of the layers 0..{self.depth}')
        towers = Towers(self.fusion_layer, self.block, self.remat, self.unroll, name='towers')
        streams = towers(self.enter(mods), train=train)
        layer, depth = _ReadAll(self.block, name='layers'), self.depth - self.fusion_layer
        return Fused(repeat(layer, streams, depth=depth, train=train, remat=self.remat, unroll=self.unroll))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities, start=self.fusion_layer) if self.fusion_layer < self.depth else {}


class _ReadAll(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, mods: dict[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        everything = join(mods)
        return {name: self.block.copy(name=name)(x, train=train, context=everything) for name, x in mods.items()}
