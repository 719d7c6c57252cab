"""Encoder, interaction, decoder with an output per modality, O_m = h(Y_m): the articles' formulation, on easy-VQA.

    scripts/mmjax train configs/encoder_interaction_decoder.py

Z_m = f(X_m): a convolutional and a token encoder. Y_m = g(Z_image, Z_text): co-attention. O_m = h(Y_m): a classifier on
the image's tokens and one on the question's, both asked for the answer: neither input holds it (the articles' own
program feeds the label in as the text). After the interaction each stream alone can answer what needs both.
Expected: configs/expected/encoder_interaction_decoder.json.
"""

from configs.easy_vqa import REFERENCES, WORDS, block, split
from mmjax.data import RandomFlip, RandomShift
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.coattention import Coattention
from mmjax.model import Model
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine


def experiment() -> Experiment:
    modalities = ('image', 'text')
    return Experiment(
        name='encoder_interaction_decoder',
        model=Model(
            encoders={
                'image': ConvEncoder(width=64, channels=(16, 32, 64, 64)),
                'text': TokenEncoder(vocabulary=WORDS.size, width=64, depth=1, block=block()),
            },
            fusion=Coattention(depth=2, block=block()),
            decoders={m: MaskedMean(classes=13, streams=(m,)) for m in modalities},
        ),
        data=split('train', RandomFlip('image'), RandomShift('image', pixels=4)),
        objectives={m: CrossEntropy(output=m, target='answer', scale=0.5) for m in modalities},
        evals={
            f'{name}_{m}': Evaluation(
                split(name), Accuracy(output=m, by='kind'), every=every, references=REFERENCES if name == 'test' else {}
            )
            for name, every in (('validation', 500), ('test', 0))
            for m in modalities
        },
        optim=AdamW(schedule=WarmupCosine(peak=2e-3, warmup=100), decay=0.05),
        steps=2000,
        batch_size=128,
    )
