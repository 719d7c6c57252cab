"""How far numbers are off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from einops import rearrange

from mmjax.errors import UserError, check_field, check_output
from mmjax.evals.base import Columns, Evaluator


@dataclass(frozen=True)
class RegressionError(Evaluator):
    """Mean absolute error, root of the mean squared error and R^2, averages over the numbers of a target of several.

    output: [b k]; target: a field [b k], or [b]; an example that lacks it (`target/present`) is left out. Beside them
    what the mean of the split would score, that guesses the same for each: `mae_of_mean`, `rmse_of_mean`; its R^2 is 0.
    Of a target that never changes R^2 is 0.
    """

    output: str = 'value'
    target: str = 'value'

    def predictions(self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> Columns:
        check_output(self.output, outputs, asker='regression_error')
        check_field(self.target, batch, asker='regression_error')
        guess, target = outputs[self.output].astype(np.float32), batch[self.target].astype(np.float32)
        target = rearrange(target, 'b -> b 1') if target.ndim == 1 else target
        if guess.shape != target.shape:
            raise UserError(f"regression_error: '{self.output}' is {guess.shape}, '{self.target}' {target.shape}")
        present = batch.get(f'{self.target}/present', np.ones(len(guess), bool))
        return {'predicted': guess, 'target': target, 'present': present}

    def metrics(self, columns: Columns, labels: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        guess, target = (columns[name][columns['present']].astype(np.float64) for name in ('predicted', 'target'))
        if not len(guess):
            return dict.fromkeys(
                ('mae', 'rmse', 'r2', 'mae_of_mean', 'rmse_of_mean'), float('nan')
            )  # of nothing there is no score
        off, spread = guess - target, target - target.mean(axis=0)
        squares, variance = (off**2).mean(axis=0), (spread**2).mean(axis=0)
        explained = np.where(variance > 0, 1 - squares / np.where(variance > 0, variance, 1), 0)
        return {
            'mae': float(np.abs(off).mean()),
            'rmse': float(np.sqrt(squares.mean())),
            'r2': float(explained.mean()),
            'mae_of_mean': float(np.abs(spread).mean()),
            'rmse_of_mean': float(np.sqrt(variance.mean())),
        }
