"""CNN + LSTM, pooled and concatenated, MLP: the articles' two-branch classifier, on easy-VQA.

    scripts/mmjax train configs/cnn_lstm_concat.py

The articles resize to 224 x 224 (`--data.transforms.0.size 224`, and the same for each eval); here the images have 64.
The text is the question. Expected: configs/expected/cnn_lstm_concat.json.
"""

from configs.easy_vqa import REFERENCES, WORDS, split
from mmjax.data import RandomFlip, RandomShift
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.concat import Concat
from mmjax.model import Model
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine


def experiment() -> Experiment:
    return Experiment(
        name='cnn_lstm_concat',
        model=Model(
            encoders={
                'image': ConvEncoder(width=64, channels=(16, 32, 64)),
                'text': RecurrentEncoder(vocabulary=WORDS.size, width=64, cell='lstm'),
            },
            fusion=Concat(hidden=(256,)),
            decoders={'answer': MaskedMean(classes=13)},
        ),
        data=split('train', RandomFlip('image'), RandomShift('image', pixels=4)),
        objectives={'answer': CrossEntropy(output='answer', target='answer')},
        evals={
            'validation': Evaluation(split('validation'), Accuracy(by='kind'), every=500),
            'test': Evaluation(split('test'), Accuracy(by='kind'), references=REFERENCES),
        },
        optim=AdamW(schedule=WarmupCosine(peak=2e-3, warmup=100), decay=0.05),
        steps=2000,
        batch_size=128,
    )
