"""ViT-S/16 on ImageNet-1k: the plain vision transformer of Beyer et al. 2022, "Better plain ViT baselines", 90 epochs.

    scripts/prepare imagenet2012    # once; TFDS says which two archives it wants fetched by hand, and where
    scripts/mmjax train configs/imagenet_vit.py --mesh.data 8

Published: 76.5 % top-1 on the validation split after 90 epochs, in 6 to 7 hours on a TPU v3-8 (8 cores). That includes
RandAugment(2, 10) and mixup (0.2), which are not here; without the two the authors give 73.6 % (recalled, not looked
up). Their head has a hidden layer; this one is linear, with which they give 76.7 %. Else the same: inception crop,
flip, fixed sine-cosine positions, global average pool, Adam at 1e-3 with 10,000 steps of warm-up and a cosine, clipping
at 1, decay of 1e-4 of the schedule's share (0.1 times the rate).

NOT RUN HERE: neither the images nor such hardware were at hand. `tests/test_standard_recipes.py` runs it on a mock of
the same schema. configs/expected/imagenet_vit.json says what it is to reach; it has no results yet.

A pod, ViT-H/14 (632 M parameters) at batch 4096:
    scripts/mmjax train configs/imagenet_vit.py --mesh.data 4 --mesh.fsdp 64 --batch-size 4096 --steps 27869
        --model.encoders.image.patch 14 --model.encoders.image.width 1280 --model.encoders.image.depth 32
        --model.encoders.image.block.attention.heads 16 --model.encoders.image.remat dots
"""

from mmjax.data import CentralCrop, Data, RandomCrop, RandomFlip, Tfds
from mmjax.data.base import Transform
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import PatchEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.nn.positions import SinCos
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine

FIELDS = {'image': 'image', 'label': 'label'}
CLASSES, EPOCHS, BATCH = 1000, 90, 1024
IMAGES = 1_268_355  # 99 % of the train split: the rest is for looking at on the way
WORKERS = 64  # a host with that many cores keeps eight TPU cores fed
TOP_1 = Accuracy(output='label', target='label')


def split(name: str, *augment: Transform) -> Data:
    """Evaluation: the shorter side to 256 pixels, of that the middle 224 x 224."""
    crop = CentralCrop('image', size=224, resize=256)
    return Data(Tfds('imagenet2012', name, FIELDS), (*augment, crop), cache=False, workers=WORKERS)


def image_tower() -> PatchEncoder:
    """ViT-S/16 without its last norm, which the read-out has."""
    block = Block(attention=Attention(heads=6))
    return PatchEncoder(width=384, patch=16, depth=12, block=block, positions=SinCos())


def experiment() -> Experiment:
    return Experiment(
        name='imagenet_vit',
        model=Model(
            encoders={'image': image_tower()},
            fusion=Late(depth=0, entry_norm=NoNorm()),
            decoders={'label': MaskedMean(classes=CLASSES)},
        ),
        data=split('train[:99%]', RandomCrop('image', size=224), RandomFlip('image')),
        objectives={'label': CrossEntropy(output='label', target='label')},
        evals={
            'minival': Evaluation(split('train[99%:]'), TOP_1, every=5000),
            'validation': Evaluation(
                split('validation'),
                TOP_1,
                references={
                    'chance': 1 / CLASSES,
                    'published': 0.765,
                    'published, without RandAugment and mixup': 0.736,
                },
            ),
        },
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=10_000), decay=0.1),
        steps=EPOCHS * IMAGES // BATCH,
        batch_size=BATCH,
        precision='bfloat16',
        checkpoint=Checkpoint(every=1000),
        log=Log(every=50),
    )
