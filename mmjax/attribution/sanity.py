"""The parameter randomisation test: does an attribution depend on what the model has learned?

Adebayo et al. 2018, all layers at once: Spearman's rank correlation of an example's attributions under trained and
under fresh parameters, both for the class that the trained ones predict; of absolute values, for attributions may be of
either sign. Near 1 the method shows the input or the architecture, not the model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import spearmanr

from mmjax.experiment import Experiment
from mmjax.train.state import model_parameters
from mmjax.types import Batch


def fresh_parameters(experiment: Experiment, batch: Batch, *, seed: int) -> Any:
    """Parameters as a run with this seed starts with."""
    other = dataclasses.replace(experiment, seed=seed)
    return nn.meta.unbox(jax.jit(lambda batch: model_parameters(other, batch))(dict(batch)))


def rank_correlation(
    first: Mapping[str, Float[np.ndarray, 'b _n']],
    second: Mapping[str, Float[np.ndarray, 'b _n']],
    masks: Mapping[str, Bool[np.ndarray, 'b _n']],
) -> Float[np.ndarray, 'b']:
    """Of the absolute values at each example's real tokens of the modalities of `masks`; 0 where one is constant."""
    names = sorted(masks)
    a, b = (np.abs(np.concatenate([np.asarray(x[name]) for name in names], axis=1)) for x in (first, second))
    real = np.concatenate([masks[name] for name in names], axis=1)
    result = np.zeros(len(real))
    for i, row in enumerate(real):
        if row.any() and np.ptp(a[i, row]) > 0 and np.ptp(b[i, row]) > 0:
            result[i] = spearmanr(a[i, row], b[i, row]).statistic
    return result
