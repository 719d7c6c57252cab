"""Image <-> text in fourteen languages by two towers and a contrastive loss: an emoji by its name, a name by its emoji.

    scripts/mmjax train configs/clip_emoji.py
    scripts/mmjax train configs/siglip_emoji.py    # the same with a loss for each pair

Every step shows each emoji with its name in one language, another each time. Tested on emoji of which no variant was
in training, flags apart: recall@k both ways, in English and in three other languages that were trained on.
Expected: configs/expected/clip_emoji.json; `scripts/check clip_emoji` trains and compares.
"""

from mmjax.data import AnyItem, Bytes, Data, Image, Item, RandomShift, Tfds
from mmjax.data.base import Transform
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.retrieval import Retrieval
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'text': 'names', 'base': 'base'}
TEXT = Bytes(key='text', length=64)
FOUND = Retrieval(group='base')
CHANCE = {'chance@10': 0.077}  # of a right one among ten of the 169 of `test`; the metric `chance@10/…` says it too
TESTED = ('en', 'de', 'ru', 'ja')


def split(name: str, chosen: Transform, *augment: Transform) -> Data:
    return Data(Tfds('emoji', name, FIELDS), (Image('image', size=64), *augment, chosen, TEXT))


def experiment() -> Experiment:
    width = 128
    tested = {
        f'test_{language}': Evaluation(split('test', Item('text', LANGUAGES.index(language))), FOUND, references=CHANCE)
        for language in TESTED
    }
    english = Item('text', LANGUAGES.index('en'))
    return Experiment(
        name='clip_emoji',
        model=Model(
            encoders={
                'image': ConvEncoder(width=width, channels=(16, 32, 64, 128), norm=NoNorm()),
                'text': TokenEncoder(
                    vocabulary=TEXT.size, width=width, depth=2, block=Block(attention=Attention(heads=4)), unroll=2
                ),
            },
            fusion=Late(depth=0),
            decoders={
                'image': Embedded(streams=('image',)),
                'text': Embedded(streams=('text',)),
                'temperature': Temperature(),
            },
        ),
        data=split('train+train_flags', AnyItem('text'), RandomShift('image', pixels=6)),
        objectives={'pairs': ContrastiveSoftmax(outputs=('image', 'text'))},
        evals={
            'validation': Evaluation(split('validation', english), FOUND),
            **tested,
            'test_flags': Evaluation(split('test_flags', english), FOUND),
        },
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=100), decay=0.1),
        steps=1500,
        batch_size=128,
    )
