"""What is told before a run has a directory."""

import dataclasses

import pytest

from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.evals.matching import MatchRetrieval
from mmjax.evals.retrieval import Retrieval
from mmjax.experiment import Evaluation
from mmjax.train.run import train
from mmjax.views.absent import Without
from tests.train import toy


@pytest.mark.parametrize(
    ('evaluation', 'told'),
    [
        (Evaluation(toy.data(rows=4), Accuracy(output='anser')), "evals.last: .*no output of the model 'anser'"),
        (Evaluation(toy.data(rows=4), Accuracy(by='kind')), "evals.last: .*'kind'"),
        (Evaluation(toy.data(rows=4), Retrieval()), "evals.last: retrieval.*'image'"),
        (Evaluation(toy.data(rows=4), MatchRetrieval(group='bsae')), 'evals.last: '),
        (Evaluation(toy.data(rows=4), Accuracy(), view=Without(('imgae',))), "evals.last: .*'imgae'"),
    ],
)
def test_an_evaluation_that_cannot_be_made_is_told_before_anything_trains(tmp_path, evaluation, told):
    """`every=0` evaluates after the last step, which may be days later."""
    experiment = toy.experiment()
    experiment = dataclasses.replace(experiment, evals={**experiment.evals, 'last': evaluation})
    with pytest.raises(UserError, match=told):
        train(experiment, workdir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
