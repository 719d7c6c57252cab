"""Image + question -> answer on easy-VQA: convolutional image tokens, word tokens, and one transformer over both.

    scripts/mmjax train configs/easy_vqa.py

Expected: configs/expected/easy_vqa.json; `scripts/check easy_vqa` trains three seeds and compares.
"""

from mmjax.data import Data, Image, RandomFlip, RandomShift, Tfds, Words
from mmjax.decoders.classification import LogitSum
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.nn.positions import SinCos
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'text': 'question', 'answer': 'answer', 'kind': 'kind'}

# The words of the 107 questions.
WORDS = Words(
    key='text',
    length=9,
    vocabulary=(
        'a', 'black', 'blue', 'brown', 'circle', 'color', 'contain', 'does', 'gray', 'green', 'image', 'in', 'is',
        'no', 'not', 'of', 'present', 'rectangle', 'red', 'shape', 'teal', 'the', 'there', 'triangle', 'what', 'yellow',
    ),
)  # fmt: skip

# Accuracy on the test split of: the commonest answer; the commonest answer to each question; a model that adds a score
# for the shape and colour to one for the question, trained by cross-entropy (these three: tests/data/builders/
# test_easy_vqa.py); the data set's authors. Arranged for accuracy instead, additive scores can reach about 0.89.
REFERENCES = {'majority': 0.373, 'question only': 0.670, 'additive': 0.871, "authors' model": 0.9378}


def split(name: str, *augment) -> Data:
    return Data(Tfds('easy_vqa', name, FIELDS), (Image('image', size=64), WORDS, *augment))


def block() -> Block:
    return Block(attention=Attention(heads=2))


def experiment() -> Experiment:
    width = 64
    return Experiment(
        name='easy_vqa',
        model=Model(
            encoders={
                'image': ConvEncoder(width=width, channels=(16, 32, 64, 64), norm=NoNorm(), positions=SinCos()),
                'text': TokenEncoder(vocabulary=WORDS.size, width=width, depth=0),
            },
            fusion=Early(depth=3, block=block(), unroll=3),
            decoders={'answer': LogitSum(classes=13)},
        ),
        data=split('train', RandomShift('image', pixels=4), RandomFlip('image')),
        objectives={'answer': CrossEntropy(output='answer', target='answer')},
        evals={
            'validation': Evaluation(split('validation'), Accuracy(by='kind'), every=2000),
            'test': Evaluation(split('test'), Accuracy(by='kind'), references=REFERENCES),
        },
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=200), decay=0.05),
        steps=9000,
        batch_size=32,
    )
