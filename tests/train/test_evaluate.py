"""What an evaluation computes and takes from the devices."""

import dataclasses

import jax
import numpy as np
import pytest

from mmjax.data import eval_batches
from mmjax.decoders.tokens import TokenLogits
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.evals.base import Columns
from mmjax.sharding import MeshShape
from mmjax.train import evaluate
from tests.train import toy


@dataclasses.dataclass(frozen=True)
class Telling(Accuracy):
    """Keeps the names of the outputs that it is given."""

    def predictions(self, outputs, batch) -> Columns:
        told = np.full(len(batch['index']), '+'.join(sorted(outputs)))
        return super().predictions(outputs, batch) | {'told': told}


@dataclasses.dataclass(frozen=True)
class Everything(Telling):
    @property
    def asks(self):
        return None


def experiment(**decoders):
    model = toy.model(dropout=0.0)
    return toy.experiment(model=model.clone(decoders={**model.decoders, **decoders}))


WORDS = {'words': TokenLogits(vocabulary=512)}


def scorer_and_params(made):
    batch = next(iter(eval_batches(toy.data(rows=21), batch_size=16)))
    return evaluate.Scorer(made, MeshShape(data=1).build(jax.devices()[:1])), toy.drawn(made, batch).params, batch


def test_an_evaluator_is_given_what_it_asks_for():
    """Also where another one has been given less before."""
    made = experiment(**WORDS)
    scorer, params, _ = scorer_and_params(made)
    first = scorer.score(made.evals['test'], params)[0]
    for evaluator, told in ((Telling(), 'answer'), (Everything(), 'answer+words')):
        scores, columns = scorer.score(dataclasses.replace(made.evals['test'], evaluator=evaluator), params)
        assert set(columns['told']) == {told} and len(columns['told']) == 21
        assert scores == pytest.approx(first, rel=1e-6)


def test_what_is_not_asked_for_is_not_computed():
    """By the compiler's count, beside a model that has no such decoder."""

    def flops(made, evaluator):
        _, params, batch = scorer_and_params(made)
        asked = dataclasses.replace(made.evals['test'], evaluator=evaluator)
        ask = jax.jit(lambda p, b: evaluate.predict_and_keep(p, b, experiment=made, evaluation=asked))
        return ask.lower(params, batch).compile().cost_analysis()['flops']

    with_words, without = experiment(**WORDS), experiment()
    assert flops(with_words, Accuracy()) == flops(without, Accuracy()) < 0.9 * flops(with_words, Everything())


def test_what_is_missing_is_told_among_all_that_is_there():
    made = experiment(**WORDS)
    scorer, params, _ = scorer_and_params(made)
    asked = dataclasses.replace(made.evals['test'], evaluator=Accuracy(output='anser'))
    with pytest.raises(UserError, match=r"no output of the model 'anser'; did you mean 'answer'\? .*'answer', 'words'"):
        scorer.score(asked, params)
