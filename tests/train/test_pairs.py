"""All pairs of a split: what is scored is what the model says of the pair itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import eval_batches
from mmjax.decoders.classification import MaskedMean
from mmjax.errors import UserError
from mmjax.evals.base import PairEvaluator
from mmjax.evals.matching import MatchRetrieval
from mmjax.experiment import Evaluation
from mmjax.sharding import MeshShape
from mmjax.train.evaluate import Scorer
from mmjax.views.matching import Matching
from tests.train import toy


class Sparing(MatchRetrieval):
    """Is given nothing that it does not ask for."""

    def of_pairs(self, outputs):
        assert outputs.keys() == {'match'}
        return super().of_pairs(outputs)


def test_each_pair_is_scored_as_if_it_were_an_example(random_parameters):
    model = toy.model(dropout=0.0).clone(decoders={'match': MaskedMean(classes=2), 'other': MaskedMean(classes=3)})
    evaluation = Evaluation(toy.data(rows=7), Sparing(group='answer', ks=(1,)))
    experiment = toy.experiment(model=model, batch_size=4)
    (rows,) = eval_batches(evaluation.data, batch_size=7)
    rows['image/present'][:] = True
    params = random_parameters(model, jax.tree.map(jnp.asarray, rows))
    scorer = Scorer(experiment, MeshShape(data=2).build(jax.devices()[:2]))
    scores, columns = scorer.score(evaluation, params['params'])
    first, second = np.divmod(np.arange(49), 7)
    pairs = {name: x[second if name.startswith('text') else first] for name, x in rows.items()}
    logits = np.asarray(jax.jit(model.apply)(params, pairs)['match'])
    np.testing.assert_allclose(columns['scores'].ravel(), logits[:, 1] - logits[:, 0], atol=1e-5)
    np.testing.assert_array_equal(columns['index'], np.arange(7))
    np.testing.assert_array_equal(columns['group'], rows['answer'])
    assert columns['present'].all() and set(scores) == {
        f'{what}@1/{way}' for what in ('recall', 'low', 'high', 'chance') for way in ('image_to_text', 'text_to_image')
    }


def test_what_pairs_cannot_be_made_of_is_told():
    evaluation = Evaluation(toy.data(rows=7), MatchRetrieval())
    assert isinstance(evaluation.evaluator, PairEvaluator)
    seen = dataclasses.replace(evaluation, view=Matching())
    with pytest.raises(UserError, match='pairs are made of the examples as they are'):
        toy.experiment(evals={'test': seen}).check()
    other = dataclasses.replace(evaluation, evaluator=MatchRetrieval(modalities=('image', 'texts')))
    with pytest.raises(UserError, match="no encoder 'texts'; did you mean 'text'"):
        toy.experiment(evals={'test': other}).check()
