"""Latent resampling: each modality becomes a few tokens, which then go through early fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import field

import flax.linen as nn
from einops import repeat as tile

from mmjax.fusion.base import Flow, Fusion, everyone
from mmjax.fusion.early import Early
from mmjax.nn.block import Block, repeat
from mmjax.nn.norm import NoNorm
from mmjax.nn.parameter import parameter
from mmjax.types import Fused, Tokens, concatenate


class Resampler(Fusion):
    """Flamingo's form of the Perceiver resampler (Alayrac et al. 2022, appendix A.1.1), then early fusion of latents.

    `num_tokens` learned latents q of each modality read it: `resample_depth` times q = block(q, kv = [Z; q]). The
    streams that come back are the latents, so the cost of the `depth` fused layers does not grow with the input. A
    modality that is absent has no latents. Learned queries that read one modality are also BLIP-2's Q-Former (Li et al.
    2023), whose queries do not read themselves as keys of the same attention.
    """

    num_tokens: int = 8
    resample_depth: int = 1
    depth: int = 4
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        latents = {name: self._resampled(name, x, train) for name, x in self.enter(mods).items()}
        early = Early(NoNorm(), self.depth, self.block, self.remat, self.unroll, name='early')
        return early(latents, train=train)

    def _resampled(self, name: str, x: Tokens, train: bool) -> Tokens:
        shape = (self.num_tokens, x.values.shape[-1])
        seed = parameter(self, f'latents_{name}', shape, ('positions', 'embed')).astype(x.values.dtype)
        b = x.mask.shape[0]
        mask = tile(x.present, 'b -> b n', n=self.num_tokens)
        q = Tokens.of(tile(seed, 'n d -> b n d', b=b), mask)
        # Latents stand beside the whole modality and read whatever is real: segments and causality end here.
        x = Tokens.of(x.values, x.mask)
        layer = _Resample(self.block, name=f'resample_{name}')
        return repeat(layer, (q, x), depth=self.resample_depth, train=train, remat=self.remat, unroll=self.unroll)[0]

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities) if self.depth else {}


class _Resample(nn.Module):
    block: Block

    @nn.compact
    def __call__(self, carry: tuple[Tokens, Tokens], *, train: bool) -> tuple[Tokens, Tokens]:
        q, x = carry
        return self.block.copy(name='block')(q, train=train, context=concatenate({'x': x, 'q': q})), x
