"""Scores of all pairs of a split: what one example has of a modality, with what each has of another."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from einops import rearrange
from jax.experimental import multihost_utils

from mmjax.evals.base import Columns, PairEvaluator, asked
from mmjax.experiment import Experiment
from mmjax.sharding import place_batch, rows_here
from mmjax.train.passes import apply_model, beside_modalities
from mmjax.types import Batch, Outputs, Tokens


class PairScorer:
    """Encodes each example once, then answers for each pair, a batch of them at a time. Compiles once."""

    def __init__(self, experiment: Experiment, mesh: jax.sharding.Mesh):
        self._experiment, self._mesh = experiment, mesh
        self._encode = jax.jit(functools.partial(_encode_and_keep, experiment=experiment))
        answer = functools.partial(_answer, experiment=experiment)
        self._answer = jax.jit(answer, static_argnames='asks')

    def columns(self, evaluator: PairEvaluator, batches: Iterable[Mapping[str, np.ndarray]], params: Any) -> Columns:
        """`scores` [n n], `present` [n] and what the evaluator keeps of each example, with `index`."""
        tokens, parts = [], []
        for batch in batches:
            with jax.set_mesh(self._mesh):
                encoded, kept = self._encode(params, place_batch(batch, self._mesh))
            encoded, kept = multihost_utils.process_allgather((encoded, kept), tiled=True)
            real = kept['weight'] > 0
            tokens.append(jax.tree.map(lambda x, real=real: x[real], encoded))
            there = [encoded[name].mask.any(axis=1) for name in evaluator.modalities]
            columns = evaluator.predictions({}, kept) | {'index': kept['index'], 'present': there[0] & there[1]}
            parts.append({name: column[real] for name, column in columns.items()})
        encoded = jax.tree.map(lambda *x: np.concatenate(x), *tokens)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return columns | {'scores': self._scores(evaluator, encoded, len(columns['index']), params)}

    def _scores(self, evaluator: PairEvaluator, encoded: dict[str, Tokens], n: int, params: Any) -> np.ndarray:
        size, scores = self._experiment.batch_size, []
        mine = rows_here(size, self._mesh)
        for start in range(0, n * n, size):
            pairs = np.minimum(np.arange(start, start + size), n * n - 1)[mine]  # the last batch is filled up
            first, second = np.divmod(pairs, n)
            rows = {name: second if name == evaluator.modalities[1] else first for name in encoded}
            with jax.set_mesh(self._mesh):
                outputs = self._answer(params, encoded, place_batch(rows, self._mesh), asks=evaluator.asks)
            scores.append(evaluator.of_pairs(multihost_utils.process_allgather(outputs, tiled=True)))
        return rearrange(np.concatenate(scores)[: n * n], '(first second) -> first second', second=n)


def _encode_and_keep(params: Any, batch: Batch, *, experiment: Experiment) -> tuple[dict[str, Tokens], Batch]:
    kept = beside_modalities(experiment, batch)
    return apply_model(experiment, params, batch, train=False, method='encode'), kept


def _answer(
    params: Any, encoded: dict[str, Tokens], rows: Batch, *, experiment: Experiment, asks: tuple[str, ...] | None
) -> Outputs:
    pairs = {name: jax.tree.map(lambda x, name=name: x[rows[name]], tokens) for name, tokens in encoded.items()}
    return asked(apply_model(experiment, params, pairs, train=False, method='answer'), asks)
