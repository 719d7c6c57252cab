"""Questions about photographs, VQA v2: patches and bytes in one transformer, as ViLT, scored by the official accuracy.

    MMJAX_VQA_V2=DIR scripts/prepare vqa_v2/questions    # once; mmjax/data/builders/vqa_v2.py says what DIR holds
    MMJAX_VQA_V2=DIR scripts/prepare vqa_v2/images
    scripts/mmjax train configs/vqa_v2.py --mesh.data 8

Trained on `train` with soft targets over the 3,129 answers that are the commonest of nine questions or more (Teney et
al. 2018), tested on `validation`, 214,354 questions, whose ten answers each are public. (test-dev and test-std are
scored by a server alone.) The size of ViLT-B/32 (Kim et al. 2021), from scratch; questions are read as bytes.

Published: 63.15 % on the same validation split (Teney et al. 2018, trained on `train`, with features of a detector that
had learned ImageNet and Visual Genome, and with its questions; without those 62.48 %). On the test splits (recalled,
not looked up): ViLT-B/32 71.26 %, after pre-training on ten million captions; of Goyal et al. 2017, always "yes"
25.98 %, the question alone 44.26 %, a VGG and an LSTM (d-LSTM+n-I) 54.22 %. From scratch, as here, expect to be nearer
to the last than to the first.

NOT RUN HERE: neither the images nor the hardware (eight accelerators with 16 GB each, or more) were at hand.
`tests/test_standard_recipes.py` runs it on a mock of the same files. configs/expected/vqa_v2.json says what it is to
reach at least; it has no results yet.

A pod, 24 layers of width 1024 on images of 576 pixels:
    scripts/mmjax train configs/vqa_v2.py --mesh.data 4 --mesh.fsdp 64 --batch-size 2048
        --data.transforms.0.size 576 --evals.validation.data.transforms.0.size 576
        --model.encoders.image.patch 16 --model.encoders.image.width 1024 --model.encoders.text.width 1024
        --model.fusion.depth 24 --model.fusion.block.attention.heads 16 --model.fusion.remat dots
"""

from mmjax.data import Bytes, Data, Image, Lookup, Tfds
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.vqa import VqaAccuracy
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.positions import SinCos
from mmjax.objectives.soft_targets import SoftTargets
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {
    'image': 'image',  # its row among the images, until it is looked up
    'text': 'question',
    'answer': 'answer',
    'answer/candidates': 'candidates',
    'answer/scores': 'scores',
    'kind': 'kind',
    'question_id': 'question_id',
}
ANSWERS = 3129
QUESTIONS = 443_757  # in `train`
TEXT = Bytes(key='text', length=100)
WORKERS = 32
REFERENCES = {'always yes': 0.2598, 'question only': 0.4426, 'd-LSTM+n-I': 0.5422, 'Teney et al. 2018': 0.6315}


def split(name: str) -> Data:
    images = Tfds('vqa_v2/images', 'images', {'image': 'image'})
    source = Lookup(Tfds('vqa_v2/questions', name, FIELDS), images, key='image')
    return Data(source, (Image('image', size=384), TEXT), cache=False, workers=WORKERS)


def experiment() -> Experiment:
    width, batch = 768, 512
    return Experiment(
        name='vqa_v2',
        model=Model(
            encoders={
                'image': PatchEncoder(width=width, patch=32, depth=0, positions=SinCos()),
                'text': TokenEncoder(vocabulary=TEXT.size, width=width, depth=0),
            },
            fusion=Early(depth=12, block=Block(attention=Attention(heads=12))),
            decoders={'answer': MaskedMean(classes=ANSWERS)},
        ),
        data=split('train'),
        objectives={'answer': SoftTargets(output='answer', target='answer')},
        evals={
            'validation': Evaluation(split('validation'), VqaAccuracy(by='kind'), every=5000, references=REFERENCES),
        },
        optim=AdamW(schedule=WarmupCosine(peak=3e-4, warmup=1000), decay=0.1),
        steps=20 * QUESTIONS // batch,  # 20 epochs
        batch_size=batch,
        precision='bfloat16',
        checkpoint=Checkpoint(every=1000),
        log=Log(every=50),
    )
