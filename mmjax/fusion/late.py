"""Late fusion: a tower per modality; only the decoder brings them together."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn

from mmjax.fusion.base import Flow, Layered
from mmjax.nn.block import Block, Stack
from mmjax.types import Fused, Tokens


class Towers(nn.Module):
    """`depth` blocks for each modality, with weights of its own."""

    depth: int
    block: Block
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> dict[str, Tokens]:
        return {
            name: Stack(self.block, self.depth, self.remat, self.unroll, name=name)(tokens, train=train)
            for name, tokens in mods.items()
        }


class Late(Layered):
    """Y_m = tower_m(Z_m): nothing crosses. With the decoder `logit_sum` the whole model is additive in its modalities.

    MBT's late fusion (Nagrani et al. 2021, section 3.2, L_f = L). Its modalities need not be equally wide, as those of
    CLIP are not.
    """

    one_width: ClassVar[bool] = False
    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        towers = Towers(self.depth, self.block, self.remat, self.unroll, name='towers')
        return Fused(towers(self.enter(mods), train=train))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {}
