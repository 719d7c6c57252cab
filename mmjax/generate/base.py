"""What every way to ask a model is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmjax.model import Model
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Predictor:
    """From a batch to what an evaluator scores. Frozen and hashable: equal ones are compiled once."""

    @property
    def texts(self) -> Mapping[str, str]:
        """Of the outputs that are ids of a text, the modality whose tokenizer reads them, by name."""
        return {}

    def check(self, model: Model) -> None:
        """Raises UserError where the model can't be asked this."""

    def __call__(self, model: Model, params: Any, batch: Batch) -> Outputs:
        """params: in the compute dtype."""
        raise NotImplementedError


@dataclass(frozen=True)
class Forward(Predictor):
    """One pass: what each decoder gives, by name."""

    def __call__(self, model: Model, params: Any, batch: Batch) -> Outputs:
        outputs: Any = model.apply({'params': params}, batch, train=False)
        return outputs


FORWARD = Forward()
