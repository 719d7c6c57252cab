"""LoRA around an encoder."""

from typing import Any

from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.nn.lora import Lora
from mmjax.types import Tokens


class LoraEncoder(Lora, Encoder, kw_only=True):
    """An encoder with adapters of low rank (see `mmjax.nn.lora`): `model.encoders.text=lora_encoder` wraps it."""

    module: Encoder

    @property
    def needs_input(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.needs_input

    @property
    def marks(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.marks

    @property
    def packs(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.module.packs

    def __call__(self, x: Any, present: Bool[Array, 'b'], *, train: bool, **marks: Any) -> Tokens:
        return self.adapted(x, present, train=train, **marks)
