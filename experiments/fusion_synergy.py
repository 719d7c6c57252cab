"""Which designs can use two modalities that tell nothing apart and everything together.

    scripts/mmjax study experiments/fusion_synergy.py
    scripts/mmjax study experiments/fusion_synergy.py --quick    # a few arms, some minutes: shows that it runs, no more

The data are `synergy/xor`: the answer is the exclusive or of a bit of the image and a bit of the text, beside six bits
that do not bear on it. Either input alone is right half of the time; both together tell all. A sum of a score for each,
trained by cross-entropy, has nothing to learn (its optimum gives both answers one half), so that single runs of such
an arm scatter around a half; it could be right in three cases of four if its scores were arranged for that.
"""

from experiments import small
from mmjax.data import Data, Image, Tfds, Words
from mmjax.data.builders.synergy import MEANINGS
from mmjax.encoders.image import PatchEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.study.controls import controls
from mmjax.study.probes import probes
from mmjax.study.study import Arm, Study

FIELDS = {'image': 'image', 'text': 'text', 'answer': 'y'}
WORDS = Words(
    key='text', length=5, vocabulary=('the', *(word for bit in MEANINGS for meaning in bit for word in meaning))
)


def split(name: str, config: str = 'xor') -> Data:
    return Data(Tfds(f'synergy/{config}', name, FIELDS), (Image('image', size=8, channels=1), WORDS))


def base(
    config: str = 'xor', *, classes: int = 2, steps: int = 400, references: tuple[float, float] = (0.5, 0.5)
) -> Experiment:
    image_only, text_only = references
    return small.base(
        f'synergy_{config}',
        seen={'image': PatchEncoder(width=small.WIDTH, patch=4, depth=0)},
        words=WORDS,
        classes=classes,
        data=split('train', config),
        evals={
            'validation': Evaluation(split('validation', config), Accuracy()),
            'test': Evaluation(
                split('test', config), Accuracy(), references={'image only': image_only, 'text only': text_only}
            ),
        },
        steps=steps,
        batch_size=64,
        warmup=50,
        log_every=50,
    )


def study() -> Study:
    designs = (
        'mid', 'bottleneck', 'coattention', 'experts', 'multiway', 'pairwise', 'graph', 'gated_cross_attention', 'film',
        'concat', 'gated_unit', 'low_rank', 'mutan',
    )  # fmt: skip
    additive = (
        Arm('late', ('model.fusion=late',), compared=False),
        Arm('late_probability', ('model.fusion=late', 'model.decoders.answer=probability_mean'), compared=False),
    )
    return Study(
        name='fusion_synergy',
        base=base(),
        arms=(
            Arm('early'),
            *small.arms(designs),
            *additive,
            *controls(base()),
        ),
        reference='early',
        seeds=tuple(range(100, 111)),
        probes=probes(('image', 'text'), split('test[:1000]'), additive=128),
        quick=('--steps', '200'),
    )
