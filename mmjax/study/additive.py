"""The best additive stand-in for a trained model: what it would score if modalities did not interact.

Empirical multimodally-additive projection (EMAP; Hessel & Lee 2020, "Does my multimodal model learn cross-modal
interactions? It's harder to tell than you might think!", EMNLP, section 4): of all f_a(a) + f_b(b) the one that is
nearest to f on every pair of an image and a text,

    emap(a_i, b_i) = mean_j f(a_i, b_j) + mean_j f(a_j, b_i) - mean_jk f(a_j, b_k),

here of the logits. If the projection answers as well as the model, the model's answers need no interaction.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from mmjax.data import Data, eval_batches
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.train.passes import cast
from mmjax.types import Batch, Outputs

PAIRS_AT_ONCE = 512


class Projected(NamedTuple):
    """Whether the model, and its projection, are right on each of the sampled examples."""

    model: Bool[np.ndarray, 'n']
    projection: Bool[np.ndarray, 'n']


class Additive:
    """Projects models that read two modalities; compiled once for all parameters of an experiment.

    data: where the examples come from. examples: how many, spread evenly over them.

    Raises:
        UserError: where the model reads another number of modalities than two.
    """

    def __init__(self, experiment: Experiment, data: Data, *, examples: int, output: str, target: str):
        self._modalities = experiment.model.inputs
        if len(self._modalities) != 2:
            raise UserError(f'the additive projection is of two modalities, the model reads {self._modalities}')
        self._output = output
        self._sample = sample(data, examples)
        self._target = self._sample[target]
        self._distinct = {m: _distinct(self._sample, m) for m in self._modalities}
        self._encode = jax.jit(functools.partial(_encode, experiment=experiment))
        self._answer = jax.jit(functools.partial(_answer, experiment=experiment))

    def __call__(self, params: Any) -> Projected:
        """The answers of the model with these parameters, and of its projection."""
        a, b = self._modalities
        (first_a, of_a), (first_b, of_b) = self._distinct[a], self._distinct[b]
        encoded = self._encode(params, self._sample)
        pairs = len(first_a) * len(first_b)
        rows = dict.fromkeys(encoded, np.zeros(pairs, np.int32))  # a learned token is the same in every row
        rows |= {a: np.repeat(first_a, len(first_b)), b: np.tile(first_b, len(first_a))}
        table = rearrange(self._scores(params, encoded, rows, pairs), '(u v) c -> u v c', u=len(first_a))
        projection = project(table, of_a, of_b)
        model = table[of_a, of_b]
        return Projected(model.argmax(-1) == self._target, projection.argmax(-1) == self._target)

    def _scores(self, params: Any, encoded: Any, rows: dict[str, np.ndarray], pairs: int) -> np.ndarray:
        scores = []
        for start in range(0, pairs, PAIRS_AT_ONCE):
            place = np.minimum(np.arange(start, start + PAIRS_AT_ONCE), pairs - 1)  # the last one is filled up
            part = {m: index[place] for m, index in rows.items()}
            scores.append(np.asarray(self._answer(params, encoded, part)[self._output], np.float64))
        return np.concatenate(scores)[:pairs]


def project(
    table: Float[np.ndarray, 'u v c'], of_a: Int[np.ndarray, 'n'], of_b: Int[np.ndarray, 'n']
) -> Float[np.ndarray, 'n c']:
    """The projection at each example. table: scores of every pair of distinct inputs; of_a, of_b: the examples' own."""
    share_a = np.bincount(of_a, minlength=table.shape[0]) / len(of_a)
    share_b = np.bincount(of_b, minlength=table.shape[1]) / len(of_b)
    of_left = np.einsum('uvc,v->uc', table, share_b)
    of_right = np.einsum('uvc,u->vc', table, share_a)
    return of_left[of_a] + of_right[of_b] - share_a @ of_left


def sampled(length: int, examples: int) -> Int[np.ndarray, 'n']:
    """Which rows of a split are sampled: spread evenly, all of them where there are no more."""
    return np.unique(np.linspace(0, length - 1, min(examples, length)).round().astype(int))


def sample(data: Data, examples: int) -> dict[str, np.ndarray]:
    """The batch of these rows of a split."""
    batches = list(eval_batches(data, batch_size=PAIRS_AT_ONCE))
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
