"""`matching_cnn_rnn_attention`, then ALBEF's losses: towers are contrasted before the fusion, and choose wrong names
and drawings that the match score learns to tell from the right ones (Li et al. 2021, section 3).

    scripts/mmjax train configs/matching_hard_negatives.py          # its two stages, the second shorter, and `hard`
    scripts/mmjax train configs/matching_hard_negatives.py:large    # a size for a cluster; not run here

Hard negatives are what the towers cannot tell, and nothing for a score to begin with: so `hard` goes on from `match`,
and keeps its pairs at random beside the hard ones; the towers' read-outs are learned anew. Encoders run once
for the batch as it is, and once more for the pairs at random. `hard/towers_en` is the retrieval of the same model's
towers, `hard/found_en` that of its match score.

Measured with one seed (`scripts/check matching_hard_negatives`): an AUC of 64.3 % in English (55.8 to 72.0), 64.8 to
65.7 in the other three; the English name among the first ten of 169 in 21.9 % (15.7 to 29.6), by its towers in 22.5:
what `matching_cnn_rnn_attention` has, within the intervals, so hard negatives are not shown to help.
"""

import dataclasses

from configs import matching_cnn_rnn_attention
from configs.clip_emoji import FOUND
from configs.matching_cnn_rnn_attention import TOWERS, found
from mmjax.experiment import Experiment, InitFrom
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine
from mmjax.views.mined import HardNegatives


def experiment() -> tuple[Experiment, ...]:
    towers, match = matching_cnn_rnn_attention.experiment()
    short = dataclasses.replace(match, steps=700, evals={})
    return towers, short, dataclasses.replace(hard(match), steps=200)


def large() -> tuple[Experiment, ...]:
    """`matching_cnn_rnn_attention` at its largest: 2.1 billion parameters."""
    towers, match = matching_cnn_rnn_attention.large()
    return towers, match, dataclasses.replace(hard(match), evals={})


def hard(match: Experiment) -> Experiment:
    """The third stage."""
    return dataclasses.replace(
        match,
        name='hard',
        model=match.model.clone(decoders={**match.model.decoders, **TOWERS}),
        objectives={
            'pairs': ContrastiveSoftmax(outputs=('image', 'text')),
            **match.objectives,
            'hard': CrossEntropy(output='match', target='match', view=HardNegatives(group='base')),
        },
        evals={**match.evals, 'towers_en': found(FOUND)},
        optim=AdamW(schedule=WarmupCosine(peak=3e-4, warmup=50), decay=0.1),
        init_from=InitFrom(stage='match'),
    )
