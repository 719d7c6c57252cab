"""What every evaluator is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Evaluator:
    """Scores a split in two pure steps, so that predictions can be stored per example and scored again."""

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        """Columns [b, …] of what is kept of each example: predictions, probabilities, targets."""
        raise NotImplementedError

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        """Scores of all examples [n, …]. labels: the names of classes, by field."""
        raise NotImplementedError
