"""CNN + bidirectional GRU, pooled and concatenated, MLP, on 28 x 28 images with a text: the articles' second one.

    scripts/mmjax train configs/cnn_bigru_concat.py

Images: Fashion-MNIST. Text: a yes/no question about a group of garments ("is it worn on the feet?", "does it have long
sleeves?"), drawn so that half of the answers are yes for each question and for each kind of garment: the text does not
contain the label, and neither input alone beats 50 %. (The articles feed the label itself as text.) At most 100 words,
as theirs. The set is a system package, `apt-get install dataset-fashion-mnist`, or a directory named by
$MMJAX_FASHION_MNIST.
Expected: configs/expected/cnn_bigru_concat.json.
"""

from mmjax.data import Data, Image, RandomShift, Tfds, Words
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.concat import Concat
from mmjax.model import Model
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'text': 'question', 'answer': 'answer'}

# The words of the questions.
WORDS = Words(
    key='text',
    length=100,
    vocabulary=(
        'a', 'are', 'arms', 'body', 'can', 'carried', 'chest', 'cold', 'cover', 'day', 'do', 'does', 'down',
        'drawer', 'feet', 'fold', 'foot', 'for', 'go', 'hand', 'hang', 'have', 'hot', 'in', 'into', 'is', 'it',
        'keep', 'legs', 'long', 'made', 'on', 'over', 'put', 'shopping', 'shoulders', 'sleeves', 'summer',
        'the', 'there', 'thighs', 'to', 'upper', 'walk', 'wardrobe', 'warm', 'wear', 'winter', 'worn', 'would',
        'wrists', 'you', 'your',
    ),
)  # fmt: skip


def split(name: str, *augment) -> Data:
    return Data(Tfds('fashion_questions', name, FIELDS), (Image('image', size=28, channels=1), WORDS, *augment))


def experiment() -> Experiment:
    return Experiment(
        name='cnn_bigru_concat',
        model=Model(
            encoders={
                'image': ConvEncoder(width=64, channels=(16, 32, 64)),
                'text': RecurrentEncoder(vocabulary=WORDS.size, width=64, cell='gru', bidirectional=True),
            },
            fusion=Concat(hidden=(256,)),
            decoders={'answer': MaskedMean(classes=2)},
        ),
        data=split('train', RandomShift('image', pixels=1)),
        objectives={'answer': CrossEntropy(output='answer', target='answer')},
        evals={
            'validation': Evaluation(split('validation'), Accuracy(), every=500),
            'test': Evaluation(split('test'), Accuracy(), references={'text only': 0.5, 'image only': 0.5}),
        },
        optim=AdamW(schedule=WarmupCosine(peak=2e-3, warmup=100), decay=0.05),
        steps=1500,
        batch_size=128,
    )
