"""LoRA around a fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from mmjax.fusion.base import Flow, Fusion
from mmjax.nn.lora import Lora
from mmjax.nn.norm import Norm
from mmjax.types import Fused, Tokens


class LoraFusion(Lora, Fusion, kw_only=True):
    """A fusion with adapters of low rank (see `mmjax.nn.lora`): `model.fusion=lora_fusion` wraps the one it has."""

    module: Fusion
    entry_norm: Norm | None = field(init=False, default=None)  # pyright: ignore  # that of the module is used

    @property
    def modalities(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.modalities

    @property
    def packs(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.packs

    @property
    def causal(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.causal

    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        return self.adapted(mods, train=train)

    def flow(self, modalities: Sequence[str]) -> Flow:
        return self.module.flow(modalities)
