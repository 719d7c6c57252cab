"""Photographs and captions of COCO by two towers and CLIP's loss: retrieval on Karpathy's test split.

    scripts/prepare coco_captions    # once: TFDS fetches COCO 2014 (some 40 GB) and Karpathy's splits
    scripts/mmjax train configs/coco_matching.py --mesh.data 8
    scripts/mmjax train configs/coco_matching.py:native --mesh.data 8    # photographs at their own aspect ratio

Trained on `train` + `restval` (113,287 images, one of their captions each time), tested on the 5,000 images of `test`
with their first five captions: recall@1, 5, 10 both ways, each image once in the gallery (`CaptionRetrieval`), as it is
published. The image tower is that of configs/imagenet_vit.py, a ViT-S/16, from scratch, or with what it learned there:
`--init-from.run runs/imagenet_vit`. Captions are read as bytes.

Published, on the same split: VSE++ (Faghri et al. 2018; a ResNet-152 that had learned ImageNet, fine-tuned) recall@1
41.3 % image to text, 30.3 % text to image; recall@10 81.2 %, 72.4 %. CLIP ViT-L/14 at 336 pixels, zero-shot, recall@1
58.4 %, 37.8 %. (Recalled, not looked up.) From scratch on COCO alone, as here, expect less; we found no published
figure.

NOT RUN HERE: neither the images nor the hardware (eight accelerators with 16 GB each, or more) were at hand.
`tests/test_standard_recipes.py` runs it on a mock of the same schema. configs/expected/coco_matching.json says what it
is to reach at least; it has no results yet.

A pod, towers of ViT-L/14's size at batch 32,768:
    scripts/mmjax train configs/coco_matching.py --mesh.data 4 --mesh.fsdp 64 --batch-size 32768
        --model.encoders.image.patch 14 --model.encoders.image.width 1024 --model.encoders.image.depth 24
        --model.encoders.image.block.attention.heads 16 --model.encoders.image.remat dots
        --model.encoders.text.width 1024 --model.encoders.text.depth 12 --model.encoders.text.remat dots
        --model.encoders.text.block.attention.heads 16 --model.decoders.image.width 768 --model.decoders.text.width 768
"""

import dataclasses

from configs.imagenet_vit import image_tower
from mmjax.data import AnyItem, Bytes, CentralCrop, Data, Each, NativePatches, RandomCrop, RandomFlip, Source, Tfds
from mmjax.data.base import Transform
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.encoders.native import NativePatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.retrieval import CaptionRetrieval
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.nn.places import SinCosPlaces
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'text': 'captions/text', 'image_id': 'image/id'}
TEXT = Bytes(key='text', length=128)  # longer captions are cut, with a warning
CAPTIONS = 5  # some images have six or seven; the published protocol takes five
WORKERS = 32
CROP = CentralCrop('image', size=224, resize=256)
AUGMENT = (AnyItem('text'), RandomCrop('image', size=224, area=(0.5, 1.0)), RandomFlip('image'))

# Five right ones among 25,000 captions, one among 5,000 images: the same.
REFERENCES = {
    'chance@1': 1 / 5000,
    'VSE++ recall@1/image_to_text': 0.413,
    'VSE++ recall@1/text_to_image': 0.303,
}


def data(source: Source, *choose: Transform, pixels: Transform = CROP) -> Data:
    """pixels: what makes an image one size."""
    return Data(source, (*choose, pixels, TEXT), cache=False, workers=WORKERS)


def each_caption(split: str, *, pixels: Transform = CROP) -> Data:
    return data(Each(Tfds('coco_captions', split, FIELDS), key='text', count=CAPTIONS), pixels=pixels)


def experiment() -> Experiment:
    width, found = 384, CaptionRetrieval(group='image_id')
    return Experiment(
        name='coco_matching',
        model=Model(
            encoders={
                'image': image_tower(),
                'text': TokenEncoder(
                    vocabulary=TEXT.size, width=width, depth=6, block=Block(attention=Attention(heads=6))
                ),
            },
            fusion=Late(depth=0, entry_norm=NoNorm()),
            decoders={
                'image': Embedded(streams=('image',), width=512),
                'text': Embedded(streams=('text',), width=512),
                'temperature': Temperature(),
            },
        ),
        data=data(Tfds('coco_captions', 'train+restval', FIELDS), *AUGMENT),
        objectives={'pairs': ContrastiveSoftmax(outputs=('image', 'text'))},
        evals={
            'val': Evaluation(each_caption('val'), found, every=1000),
            'test': Evaluation(each_caption('test'), found, references=REFERENCES),
        },
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=1000), decay=0.1),
        steps=60 * 113_287 // 1024,  # 60 epochs
        batch_size=1024,
        precision='bfloat16',
        checkpoint=Checkpoint(every=500),
        log=Log(every=50),
    )


def native() -> Experiment:
    """Each photograph whole, at its own aspect ratio, as at most the 196 patches of a square one of 224 pixels: NaFlex
    (`NativePatches`). It may begin with the same image tower; no crops and flips.
    """
    plain, pixels = experiment(), NativePatches('image', patch=16, most=196)
    square = image_tower()
    image = NativePatchEncoder(width=square.width, depth=square.depth, block=square.block, places=SinCosPlaces())
    return dataclasses.replace(
        plain,
        name='coco_matching_native',
        model=plain.model.clone(encoders={**plain.model.encoders, 'image': image}),
        data=data(Tfds('coco_captions', 'train+restval', FIELDS), AnyItem('text'), pixels=pixels),
        evals={name: dataclasses.replace(e, data=each_caption(name, pixels=pixels)) for name, e in plain.evals.items()},
    )
