"""The best additive stand-in for a trained model: what it would score if modalities did not interact.

Empirical multimodally-additive projection (EMAP; Hessel & Lee 2020, "Does my multimodal model learn cross-modal
interactions? It's harder to tell than you might think!", EMNLP, section 4): of all f_a(a) + f_b(b) the one that is
nearest to f on every pair of an image and a text,

    emap(a_i, b_i) = mean_j f(a_i, b_j) + mean_j f(a_j, b_i) - mean_jk f(a_j, b_k),

here of the logits; and of M modalities f_1(x_1) + … + f_M(x_M), nearest on all combinations of their inputs: the sum of
the M means of f with one input fixed, less M - 1 times the mean of all. If the projection answers as well as the model,
the model's answers need no interaction.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from mmjax.data import Data, eval_batches
from mmjax.experiment import Experiment
from mmjax.train.passes import cast
from mmjax.types import Batch, Outputs

AT_ONCE = 512  # combinations


class Projected(NamedTuple):
    """Whether the model, and its projection, are right on each of the sampled examples."""

    model: Bool[np.ndarray, 'n']
    projection: Bool[np.ndarray, 'n']


class Additive:
    """Projects models of an experiment; compiled once for all parameters.

    data: where the examples come from. examples: how many, spread evenly over them; the model answers for each
    combination of their distinct inputs.
    """

    def __init__(self, experiment: Experiment, data: Data, *, examples: int, output: str, target: str):
        self._output = output
        self._sample = sample(data, examples)
        self._target = self._sample[target]
        self._distinct = {m: _distinct(self._sample, m) for m in experiment.model.inputs}
        self._encode = jax.jit(functools.partial(_encode, experiment=experiment))
        self._answer = jax.jit(functools.partial(_answer, experiment=experiment))

    def __call__(self, params: Any) -> Projected:
        """The answers of the model with these parameters, and of its projection."""
        firsts = {m: first for m, (first, _) in self._distinct.items()}
        places = [place for _, place in self._distinct.values()]
        encoded = self._encode(params, self._sample)
        combinations = np.meshgrid(*firsts.values(), indexing='ij')
        count = combinations[0].size
        rows = dict.fromkeys(encoded, np.zeros(count, np.int32))  # a learned token is the same in every row
        rows |= {m: index.ravel() for m, index in zip(firsts, combinations, strict=True)}
        sizes = {f'm{i}': len(first) for i, first in enumerate(firsts.values())}
        axes = ' '.join(sizes)
        table = rearrange(self._scores(params, encoded, rows, count), f'({axes}) c -> {axes} c', **sizes)
        model, projection = table[tuple(places)], project(table, places)
        return Projected(model.argmax(-1) == self._target, projection.argmax(-1) == self._target)

    def _scores(self, params: Any, encoded: Any, rows: dict[str, np.ndarray], count: int) -> np.ndarray:
        scores = []
        for start in range(0, count, AT_ONCE):
            place = np.minimum(np.arange(start, start + AT_ONCE), count - 1)  # the last one is filled up
            part = {m: index[place] for m, index in rows.items()}
            scores.append(np.asarray(self._answer(params, encoded, part)[self._output], np.float64))
        return np.concatenate(scores)[:count]


def project(table: Float[np.ndarray, '*inputs c'], places: Sequence[Int[np.ndarray, 'n']]) -> Float[np.ndarray, 'n c']:
    """The projection at each example.

    table: scores of every combination of distinct inputs, an axis for each modality. places: by modality, which of its
    inputs each example has.
    """
    shares = [np.bincount(own, minlength=size) / len(own) for own, size in zip(places, table.shape, strict=False)]
    fixed = []
    for modality in range(len(shares)):
        mean = table
        for other in reversed(range(len(shares))):
            if other != modality:
                mean = np.tensordot(mean, shares[other], (other, 0))
        fixed.append(mean)
    total = shares[0] @ fixed[0]
    return sum(mean[own] for mean, own in zip(fixed, places, strict=True)) - (len(shares) - 1) * total


def sampled(length: int, examples: int) -> Int[np.ndarray, 'n']:
    """Which rows of a split are sampled: spread evenly, all of them where there are no more."""
    return np.unique(np.linspace(0, length - 1, min(examples, length)).round().astype(int))


def sample(data: Data, examples: int) -> dict[str, np.ndarray]:
    """The batch of these rows of a split."""
    batches = list(eval_batches(data, batch_size=AT_ONCE))
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    rows = {name: x[rows['weight'] > 0] for name, x in rows.items()}
    chosen = sampled(len(rows['weight']), examples)
    return {name: x[chosen] for name, x in rows.items()}


def _distinct(sample: dict[str, np.ndarray], modality: str) -> tuple[np.ndarray, np.ndarray]:
    """The first example of each distinct input of a modality, and for each example which of them it has."""
    rows = [sample[name] for name in (modality, f'{modality}/present') if name in sample]
    texts = [b''.join(x[i].tobytes() for x in rows) for i in range(len(rows[0]))]
    _, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
    return first.astype(np.int32), inverse


def _encode(params: Any, batch: Batch, *, experiment: Experiment) -> Any:
    return experiment.model.apply({'params': cast(params, experiment.precision)}, batch, method='encode')


def _answer(params: Any, encoded: Any, rows: dict[str, Any], *, experiment: Experiment) -> Outputs:
    mods = {m: jax.tree.map(lambda x, m=m: x[rows[m]], tokens) for m, tokens in encoded.items()}
    variables = {'params': cast(params, experiment.precision)}
    return experiment.model.apply(variables, mods, method='answer')  # pyright: ignore
