"""Early fusion: one stream over the concatenation of all tokens."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn

from mmjax.fusion.base import Layered, join
from mmjax.nn.block import Stack
from mmjax.nn.parameter import parameter
from mmjax.types import Fused, Tokens, split


class Early(Layered):
    """x = concat_m(X_m + type_m), then `depth` blocks that all modalities share.

    VisualBERT (Li et al. 2019, section 3), UNITER (Chen et al. 2020), ViLT (Kim et al. 2021, eq. 1-5).
    """

    packs: ClassVar[bool] = True
    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        mods = self.enter(mods)
        x = join(self.mark({name: self._typed(name, tokens) for name, tokens in mods.items()}))
        x = Stack(self.block, self.depth, self.remat, self.unroll, name='stack')(x, train=train)
        return Fused(split(x, like=mods))

    def _typed(self, name: str, tokens: Tokens) -> Tokens:
        vector = parameter(self, f'type_{name}', tokens.values.shape[-1:], ('embed',))
        return tokens.replace(values=tokens.values + vector.astype(tokens.values.dtype))

    def mark(self, mods: dict[str, Tokens]) -> dict[str, Tokens]:
        """Where a design adds to what enters (`VisualEmbedding`), a control changes who reads whom (`Isolated`)."""
        return mods
