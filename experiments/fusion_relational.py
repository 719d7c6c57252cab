"""Which designs can relate the things of a scene, when the question asks for it?

    scripts/mmjax study experiments/fusion_relational.py
    scripts/mmjax study experiments/fusion_relational.py --quick    # a few arms, some minutes: shows that it runs

The data are `sort_of_clevr`: six coloured circles and squares, and questions about one of them or about its neighbours.
The models read the scene as a list of objects and the question as a code of two words, not pixels and English: the
study is of relating, and learning to see takes small models longer than its runs last. Accuracies are also given by
subtype; 'closest' and 'furthest' are the ones that need a relation in space (knowing which shapes there are, but not
where, gives 71 and 69 %: see the builder), 'count' needs all shapes.

The yardstick is Santoro et al. 2017, section 5.2, from pixels and trained to convergence: a relation network above 94
% on both kinds, a convolutional network with an MLP 63 % on relational questions. These are of other inputs and
sizes: they say what the questions ask for, not what an arm should reach. `relation` is such a network, but, to match
the size of the others, after a layer of self-attention, in which the objects have met already; a larger one without
that layer, on the same objects, is configs/relation_network.py.
"""

from configs.relation_network import WORDS
from experiments import small
from mmjax.data import Data, Tfds
from mmjax.data.builders.sort_of_clevr import ANSWERS
from mmjax.encoders.vectors import VectorEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.study.controls import controls
from mmjax.study.probes import probes
from mmjax.study.study import Arm, Study

FIELDS = {'objects': 'objects', 'text': 'code', 'answer': 'answer', 'subtype': 'subtype'}
READER = ('--model.fusion.reader', 'objects')


def split(name: str) -> Data:
    return Data(Tfds('sort_of_clevr', name, FIELDS), (WORDS,))


def base() -> Experiment:
    return small.base(
        'sort_of_clevr',
        seen={'objects': VectorEncoder(width=small.WIDTH)},
        words=WORDS,
        classes=len(ANSWERS),
        data=split('train'),
        evals={
            'validation': Evaluation(split('validation[:4000]'), Accuracy(by='subtype')),
            'test': Evaluation(split('test'), Accuracy(by='subtype'), references={'question only': 0.467}),
        },
        steps=7000,
        batch_size=64,
        warmup=100,
        log_every=100,
    )


def study() -> Study:
    return Study(
        name='fusion_relational',
        base=base(),
        arms=(
            Arm('early'),
            *small.arms(('mid', 'bottleneck', 'coattention', 'concat')),
            Arm('film', ('model.fusion=film', *READER)),
            Arm(
                'relation',
                ('model.fusion=relation', *READER, '--model.fusion.g', '64', '64', '--model.fusion.f', '64'),
            ),
            Arm('late', ('model.fusion=late',), compared=False),
            *controls(base()),
        ),
        reference='early',
        regimes=('parameters',),
        seeds=tuple(range(100, 111)),
        probes=probes(('objects', 'text'), small.spread(split('test[:1000]')), additive=512),
        clusters='image_id',
        quick=('--steps', '200'),
    )
