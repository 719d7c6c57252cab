"""The no-flow control: early fusion in which no modality reads another."""

from collections.abc import Sequence

from mmjax.fusion.base import Flow
from mmjax.fusion.early import Early
from mmjax.types import Tokens


class Isolated(Early):
    """The parameters of `Early`, to the last one, with cross-modal attention masked.

    What it scores, a model can score without fusing: the difference from `Early` is what the flow between modalities
    brings, with parameters, data and optimisation equal. Each modality is a segment of its own.
    """

    def mark(self, mods: dict[str, Tokens]) -> dict[str, Tokens]:
        return {
            name: tokens.replace(segments=tokens.segments * len(mods) + i)
            for i, (name, tokens) in enumerate(mods.items())
        }

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {}
