"""Captions of COCO's photographs by a prefix-LM, scored on Karpathy's test split.

    scripts/prepare coco_captions    # once: TFDS fetches COCO 2014 (some 40 GB) and Karpathy's splits
    scripts/mmjax train configs/coco_caption.py --mesh.data 8
    scripts/mmjax predict runs/coco_caption --image photo.jpg

Trained on `train` + `restval` (113,287 images, another of their captions each time), tested on the 5,000 images of
`test` against all of their five to seven captions. The photograph goes through the ViT-S/16 of configs/imagenet_vit.py,
from scratch, or with what it learned there (`--init-from.run runs/imagenet_vit`); then its tokens and the bytes of the
caption share one stack, in which each byte reads the photograph and the bytes before it (`Early` over causal text, as
SimVLM and GIT have it: Wang et al. 2022 a, b). Captions are written by beam search.

Published, on the same split, trained by cross-entropy alone: Up-Down (Anderson et al. 2018; a detector that had learned
Visual Genome, an LSTM) CIDEr-D 113.5, which is 1.135 in our units. (Recalled, not looked up. It counts words as PTB's
tokenizer splits them, ours as runs of letters and digits.) From scratch on COCO alone, as here, expect less; we found
no published figure.

NOT RUN HERE: neither the images nor the hardware (eight accelerators with 16 GB each, or more) were at hand.
`tests/test_standard_recipes.py` runs it on a mock of the same schema. configs/expected/coco_caption.json says what it
is to reach at least; it has no results yet.

A pod, a tower of ViT-L/14's size and as deep a decoder, at batch 8,192:
    scripts/mmjax train configs/coco_caption.py --mesh.data 4 --mesh.fsdp 64 --batch-size 8192
        --model.encoders.image.patch 14 --model.encoders.image.width 1024 --model.encoders.image.depth 24
        --model.encoders.image.block.attention.heads 16 --model.encoders.image.remat dots
        --model.encoders.text.width 1024 --model.fusion.depth 24 --model.fusion.block.attention.heads 16
        --model.fusion.remat dots
"""

import dataclasses

from configs.coco_matching import AUGMENT, CROP, WORKERS
from configs.imagenet_vit import image_tower
from mmjax.data import Bytes, Data, Item, PromptAnswer, References, Tfds
from mmjax.data.base import Transform
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.captions import Captions
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.generate.beam import Beam
from mmjax.generate.generate import Generate
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.positions import Learned
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'text': 'captions/text'}
TEXT = PromptAnswer(Bytes(key='text', length=128))  # longer captions are cut, with a warning; references never
MOST = 7  # captions of an image
GREEDY = Generate(end=TEXT.end, length=TEXT.length)
BEAM = dataclasses.replace(GREEDY, search=Beam(width=4))
REFERENCES = {'no word right': 0.0, 'Up-Down cider_d': 1.135}


def data(split: str, fields: dict[str, str], *transforms: Transform) -> Data:
    return Data(Tfds('coco_captions', split, fields), (*transforms, CROP, TEXT), cache=False, workers=WORKERS)


def scored(split: str) -> Data:
    """The prompt is empty; the first caption stands in the row and is not read."""
    fields = {**FIELDS, 'references': 'captions/text'}
    return data(split, fields, Item('text'), References(length=512, most=MOST))


def experiment() -> Experiment:
    width, block = 384, Block(attention=Attention(heads=6), dropout=0.1)
    return Experiment(
        name='coco_caption',
        model=Model(
            encoders={
                'image': image_tower(),
                'text': TokenEncoder(vocabulary=TEXT.size, width=width, depth=0, positions=Learned(TEXT.length)),
            },
            fusion=Early(depth=6, block=block),
            decoders={'text': TokenLogits(vocabulary=TEXT.size)},
        ),
        data=data('train+restval', FIELDS, *AUGMENT),
        objectives={'caption': NextToken()},
        evals={
            'test': Evaluation(scored('test'), Captions(), references=REFERENCES, predictor=BEAM),  # and `predict`
            'val': Evaluation(scored('val[:20%]'), Captions(), every=2000, predictor=GREEDY),
        },
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=1000), decay=0.1),
        steps=40 * 113_287 // 512,  # 40 epochs
        batch_size=512,
        precision='bfloat16',
        checkpoint=Checkpoint(every=500),
        log=Log(every=50),
    )
