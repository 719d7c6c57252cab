"""LoRA around a decoder."""

from collections.abc import Mapping
from dataclasses import field

from jaxtyping import Array

from mmjax.decoders.base import Decoder
from mmjax.nn.lora import Lora
from mmjax.types import Fused, Tokens


class LoraDecoder(Lora, Decoder, kw_only=True):
    """A decoder with adapters of low rank (see `mmjax.nn.lora`): `model.decoders.NAME=lora_decoder` wraps it."""

    module: Decoder
    streams: tuple[str, ...] = field(init=False, default=())  # those of the module

    def __post_init__(self):
        self.streams = self.module.streams
        if hasattr(self.module, 'classes'):  # what no classifier has its wrapper has not either
            self.classes = self.module.classes  # pyright: ignore[reportAttributeAccessIssue]
        if hasattr(self.module, 'vocabulary'):
            self.vocabulary = self.module.vocabulary  # pyright: ignore[reportAttributeAccessIssue]
        super().__post_init__()

    @property
    def packs(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.packs

    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Array:
        return self.adapted(encoded, fused, train=train)
