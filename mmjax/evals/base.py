"""What every evaluator is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Evaluator:
    """Scores a split in two pure steps, so that predictions can be stored per example and scored again."""

    @property
    def asks(self) -> tuple[str, ...] | None:
        """The outputs that it is given; no other is computed, or leaves the devices. None: all of them. Unless it says
        otherwise here, that of its field `output`, and all where it has no such field.
        """
        output = getattr(self, 'output', None)
        return None if output is None else (output,)

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        """Columns [b, …] of what is kept of each example: predictions, probabilities, targets."""
        raise NotImplementedError

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        """Scores of all examples [n, …]. labels: the names of classes, by field."""
        raise NotImplementedError


@dataclass(frozen=True)
class PairEvaluator(Evaluator):
    """Scores what the model says of every pair of a split: the first modality of one example, the second of another.

    modalities: the two; what else the model reads comes with the first. Its columns are `scores` [n n], one row an
    example whose first modality it is, `present` [n], whether it has both, and what `predictions` keeps of the batch
    (its outputs are not asked for: {}). Encoders run once an example; fusion and decoders n^2 times: for small splits.
    """

    abstract: ClassVar[bool] = True

    modalities: tuple[str, str] = ('image', 'text')

    def of_pairs(self, outputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, 'b']:
        """The score of each pair, from the model's outputs."""
        raise NotImplementedError


def asked(outputs: Mapping[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """The outputs of these names (None: all); where one is missing, all of them, for `predictions` to tell."""
    if names is None or not set(names) <= outputs.keys():
        return dict(outputs)
    return {name: outputs[name] for name in names}
