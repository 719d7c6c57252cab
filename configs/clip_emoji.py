"""Image <-> text in twelve languages by two towers and a contrastive loss: an emoji by its name, a name by its emoji.

    scripts/mmjax train configs/clip_emoji.py
    scripts/mmjax train configs/siglip_emoji.py    # the same with a loss for each pair
    scripts/mmjax eval runs/clip_emoji --by configs/clip_emoji.py:styles    # drawings in an unseen style; needs a font
    scripts/mmjax train configs/clip_emoji.py:large    # a size for a cluster; not run here

Every step shows each emoji with its name in one of twelve languages, another each time. Tested on emoji of which no
variant was in training, flags apart: recall@k both ways, in English, in three other languages that were trained on, and
in two that were not, Portuguese and Korean. To be read against chance, and against `nearest_seen@10`, which needs no
training: the seen emoji whose picture is nearest by its pixels, and then the name nearest to that one's name by its
character n-grams (`tests/data/builders/test_emoji.py` measures it, from image to name).
Measured with one seed (`scripts/check clip_emoji`), recall@10 from image to name, with 95 % intervals: English 29.0 %
(21.1 to 38.3), German 25.4, Russian 27.2, Japanese 23.7; Portuguese, which it never saw, 18.3 (11.9 to 27.1). All are
above chance, and not above `nearest_seen@10` (27.8 to 31.4). Korean, 10.7 (5.5 to 19.5), is not above chance, nor are
flags. Of `styles` 4.8 % of the drawings of unseen kinds find their counterpart first (2.4 to 9.2), where pixels find
15.5 %: the image tower does not carry over to another style. That of configs/slip_emoji.py does.
"""

import dataclasses
from typing import Any

from mmjax.data import AnyItem, Bytes, Data, Image, Item, RandomShift, Tfds
from mmjax.data.base import Transform
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.encoders.image import ConvEncoder, PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.across import RetrievalAcross
from mmjax.evals.retrieval import Retrieval
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.nn.norm import NoNorm
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.optim import AdamW, WarmupCosine
from mmjax.sharding import MeshShape

FIELDS = {'image': 'image', 'text': 'names', 'base': 'base'}
TEXT = Bytes(key='text', length=64)
FOUND = Retrieval(group='base')
CHANCE = 0.077  # of a right one among ten of the 169 of `test`; the metric `chance@10/…` says it too
UNSEEN = ('pt', 'ko')
SEEN = tuple(place for place, language in enumerate(LANGUAGES) if language not in UNSEEN)
# What else is larger on a cluster. Evaluations are left to a run of their own.
CLUSTER: dict[str, Any] = {
    'evals': {},
    'precision': 'bfloat16',
    'mesh': MeshShape(data=-1, fsdp=16),
    'batch_size': 4096,
    'steps': 100_000,
}
# `nearest_seen@10` of the tested languages.
NEAREST = {'en': 0.302, 'de': 0.314, 'ru': 0.284, 'ja': 0.284, 'pt': 0.278, 'ko': 0.284}


def split(name: str, chosen: Transform, *augment: Transform, side: int = 64) -> Data:
    """side: of a drawing, in pixels."""
    return Data(Tfds('emoji', name, FIELDS), (Image('image', size=side), *augment, chosen, TEXT))


def learned(places: tuple[int, ...] = SEEN, *, side: int = 64) -> Data:
    """places: of the languages in `LANGUAGES`. side: of a drawing, in pixels."""
    shift = RandomShift('image', pixels=round(0.1 * side))
    return split('train+train_flags', AnyItem('text', places), shift, side=side)


def image_tower() -> ConvEncoder:
    """Four by four tokens of a drawing."""
    return ConvEncoder(width=128, channels=(16, 32, 64, 128), norm=NoNorm())


def references(language: str) -> dict[str, float]:
    return {'chance@10': CHANCE, 'nearest_seen@10': NEAREST[language]}


def experiment() -> Experiment:
    width = 128
    tested = {
        f'test_{language}': Evaluation(
            split('test', Item('text', LANGUAGES.index(language))), FOUND, references=references(language)
        )
        for language in NEAREST
    }
    english = Item('text', LANGUAGES.index('en'))
    return Experiment(
        name='clip_emoji',
        model=Model(
            encoders={
                'image': image_tower(),
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
        data=learned(),
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


def styles() -> Experiment:
    """Drawings by Noto, in whose style it saw none, each to find OpenMoji's drawing of the same: image to image.

    `emoji_styles` needs a font, see there. train: emoji that it saw in the other style; test: of kinds that it never
    saw. `pixels@1`: by the correlation of the pixels.
    """
    fields = {**FIELDS, 'style': 'style'}
    found = RetrievalAcross(by='style', queries='noto', gallery='openmoji', group='base')
    transforms = (Image('image', size=64), Item('text', LANGUAGES.index('en')), TEXT)
    evals = {
        name: Evaluation(Data(Tfds('emoji_styles', name, fields), transforms), found, references={'pixels@1': pixels})
        for name, pixels in (('train', 0.078), ('test', 0.155))
    }
    return dataclasses.replace(experiment(), evals=evals)


def large() -> Experiment:
    """The towers of OpenCLIP's ViT-bigG/14: 2.5 billion parameters."""
    model = Model(
        encoders={
            'image': PatchEncoder(
                width=1664,
                patch=14,
                depth=48,
                block=Block(attention=Attention(heads=16), mlp=Mlp(ratio=8192 / 1664)),
                remat='full',
            ),
            'text': TokenEncoder(
                vocabulary=TEXT.size, width=1280, depth=32, block=Block(attention=Attention(heads=20)), remat='full'
            ),
        },
        fusion=Late(depth=0),
        decoders={
            'image': Embedded(streams=('image',), width=1280),
            'text': Embedded(streams=('text',), width=1280),
            'temperature': Temperature(),
        },
    )
    changes = CLUSTER | {'batch_size': 32_768}
    return dataclasses.replace(experiment(), name='clip_large', model=model, data=learned(side=224), **changes)
