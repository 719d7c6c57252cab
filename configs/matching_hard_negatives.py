"""`matching_cnn_rnn_attention` with ALBEF's losses: towers are contrasted before the fusion, and choose the wrong names
and drawings that the match score learns to tell from the right ones (Li et al. 2021, section 3).

    scripts/mmjax train configs/matching_hard_negatives.py
    scripts/mmjax train configs/matching_hard_negatives.py:large    # a size for a cluster; not run here

Encoders run once a step. `towers_en` is the retrieval of the same model's towers, `found_en` that of its match score.
Measured with one seed: the towers find the English name of an unseen kind among ten in 21.9 % (14.7 to 31.4), the match
score in 10.1 (5.8 to 16.8; chance 7.7); its AUC is 51.7 %, chance 50. So the towers learn and the match score does not
carry over; `scripts/check matching_hard_negatives`, which asks for an AUC of 60 %, fails.
"""

import dataclasses

from configs import matching_cnn_rnn_attention
from configs.clip_emoji import references, split
from mmjax.data import Item
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.evals.retrieval import Retrieval
from mmjax.experiment import Evaluation, Experiment
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.views.mined import HardNegatives


def experiment() -> Experiment:
    hard = contrasted(matching_cnn_rnn_attention.experiment(), name='matching_hard_negatives')
    found = Evaluation(split('test', Item('text')), Retrieval(group='base'), references=references('en'))
    return dataclasses.replace(hard, evals={**hard.evals, 'towers_en': found})


def large() -> Experiment:
    """`matching_cnn_rnn_attention` at its largest: 2.1 billion parameters."""
    return contrasted(matching_cnn_rnn_attention.large(), name='matching_hard_large')


def contrasted(plain: Experiment, *, name: str) -> Experiment:
    towers = {
        'image': Embedded(streams=('image',)),
        'text': Embedded(streams=('text',)),
        'temperature': Temperature(),
    }
    return dataclasses.replace(
        plain,
        name=name,
        model=plain.model.clone(decoders={**plain.model.decoders, **towers}),
        objectives={
            'pairs': ContrastiveSoftmax(outputs=('image', 'text')),
            'match': CrossEntropy(output='match', target='match', view=HardNegatives(group='base')),
        },
    )
