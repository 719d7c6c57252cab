"""Which designs answer questions about pairs of shape and colour that they never saw together?

    scripts/mmjax study experiments/fusion_easy_vqa.py
    scripts/mmjax study experiments/fusion_easy_vqa.py --quick    # a few arms, some minutes: shows that it runs

The data are `easy_vqa/heldout`: six of the 24 pairs are in the test alone, though every shape and every colour is seen
in training in other company. Reported beside it, on 2,500 questions each: `test_seen`, official test images of the
other 18 pairs, and `official`, test images of all pairs (a quarter of whose pairs are unseen here). The models are
small, 32x32 pixels through three convolutions, and their runs short.
"""

from configs.easy_vqa import FIELDS, WORDS
from experiments import small
from mmjax.attribution.pointing import object_mask
from mmjax.data import Data, Image, Tfds
from mmjax.data.builders.easy_vqa import ANSWERS
from mmjax.encoders.image import ConvEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.nn.norm import NoNorm
from mmjax.nn.positions import SinCos
from mmjax.study.controls import controls
from mmjax.study.explained import Explanation
from mmjax.study.probes import probes
from mmjax.study.study import Arm, Study

# Accuracy on the unseen pairs (tests/data/builders/test_easy_vqa.py). Of yes/no questions alone the second has 81.8 %.
REFERENCES = {'commonest answer of training': 0.361, 'commonest answer to each question': 0.635}


def split(name: str, config: str = 'easy_vqa/heldout') -> Data:
    return Data(Tfds(config, name, FIELDS), (Image('image', size=32), WORDS))


def base() -> Experiment:
    return small.base(
        'easy_vqa_heldout',
        seen={'image': ConvEncoder(width=small.WIDTH, channels=(16, 32, 32), norm=NoNorm(), positions=SinCos())},
        words=WORDS,
        classes=len(ANSWERS),
        data=split('train'),
        evals={
            'validation': Evaluation(split('validation'), Accuracy(by='kind')),
            'test': Evaluation(split('test'), Accuracy(by='kind')),
            'test_seen': Evaluation(split('test_seen[:2500]'), Accuracy(by='kind')),
            'official': Evaluation(split('test[:2500]', 'easy_vqa/official'), Accuracy(by='kind')),
        },
        steps=3000,
        batch_size=16,
        warmup=100,
        log_every=100,
    )


def study() -> Study:
    designs = (
        'mid', 'bottleneck', 'coattention', 'experts', 'pairwise', 'graph', 'gated_cross_attention', 'film', 'concat',
        'gated_unit', 'low_rank',
    )  # fmt: skip
    return Study(
        name='fusion_easy_vqa',
        base=base(),
        arms=(
            Arm('early'),
            *small.arms(designs),
            Arm('late', ('model.fusion=late',), compared=False),
            *controls(base()),
        ),
        reference='early',
        seeds=tuple(range(100, 111)),
        probes=probes(('image', 'text'), small.spread(split('test[:1000]')), additive=512),
        explanation=Explanation(
            split('test'), examples=128, classes=ANSWERS, image='image', objects=object_mask, pictures=6
        ),
        clusters='image_id',
        references=REFERENCES,
        quick=('--steps', '150'),
    )
