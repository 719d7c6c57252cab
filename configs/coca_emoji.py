"""CoCa: captions in a requested language and image <-> text by one pass of one model.

    scripts/train_tokenizer configs/coca_emoji.py    # its byte-pair tokens, those of `caption_emoji`
    scripts/mmjax train configs/coca_emoji.py
    scripts/mmjax predict runs/coca_emoji --image cat.png --text de:

Yu et al. 2022. The text goes through causal layers of its own, whose last token, the end of the text, is its vector;
then through layers that also read the drawing, by way of a few learned queries, and write the name. A pool of these
queries is the drawing's vector. The loss is that of `caption_emoji` twice and that of `clip_emoji` once, as in the
paper. Data, languages and what to expect of the captions: see `configs/caption_emoji.py`; retrieval is scored among
unseen emoji.
Measured with one seed (`scripts/check coca_emoji`), from nothing: chrF 15.0 in English (12.3 to 17.8; 17.5 by beam
search), where another's drawing gives 8.3 (7.0 to 9.5) and the nearest drawing's name 20.9; German 17.3, Spanish
20.3, French 18.0 (nearest 22.4 to 23.9); CIDEr-D 0.20 in English (nearest 0.47), exact match 0: below the nearest
drawing's name, but in Spanish; of drawings that it had seen 19.9. The English name is found among the first ten of
169 in 30.8 % (23.1 to 39.7; chance 7.7), the drawing in 29.0 (22.2 to 36.8).

`scripts/mmjax train configs/coca_emoji.py:large` is the size of the paper, for a cluster; not run here.
"""

import dataclasses

from configs import caption_emoji
from configs.caption_emoji import TEXT, evaluations, scored
from configs.clip_emoji import CLUSTER, image_tower
from mmjax.data import Tfds
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.base import Encoder
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.queried import Queried
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.retrieval import Retrieval
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.cross import CrossAttention
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.nn.pool import LastPool, ProbePool
from mmjax.nn.positions import Learned
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.next_token import NextToken

VECTORS = ('image_vector', 'text_vector')
FOUND = Retrieval(a=VECTORS[0], b=VECTORS[1], group='base')
CHANCE = {'chance@10': 0.077}  # of a right one among ten of the 169 of `test`


def model(image: Encoder, *, block: Block, width: int, unimodal: int, multimodal: int, **stack) -> Model:
    """unimodal, multimodal: layers of the text without and with the image."""
    return Model(
        encoders={
            'image': image,
            'text': TokenEncoder(
                vocabulary=TEXT.size, width=width, depth=unimodal, block=block, positions=Learned(TEXT.length), **stack
            ),
        },
        fusion=CrossAttention(depth=multimodal, block=block, **stack),
        decoders={
            'text': TokenLogits(vocabulary=TEXT.size),
            'image_vector': Embedded(streams=('image',), pool=ProbePool(attention=block.attention)),
            'text_vector': Embedded(streams=('text',), pool=LastPool()),
            'temperature': Temperature(),
        },
    )


def experiment() -> Experiment:
    width, block = 128, Block(attention=Attention(heads=4))
    caption = caption_emoji.captioning()
    asked = scored('test', 'en')
    assert isinstance(asked.source, Tfds)
    fields = {**asked.source.fields, 'base': 'base'}
    found = dataclasses.replace(asked, source=dataclasses.replace(asked.source, fields=fields))
    image = Queried(image_tower(), queries=8, attention=block.attention)
    return dataclasses.replace(
        caption,
        name='coca_emoji',
        model=model(image, block=block, width=width, unimodal=2, multimodal=2, unroll=2),
        objectives={'caption': NextToken(scale=2.0), 'pairs': ContrastiveSoftmax(outputs=VECTORS)},
        evals={**evaluations(), 'test_en_retrieval': Evaluation(found, FOUND, references=CHANCE)},
    )


def large() -> Experiment:
    """The paper's largest (table 1), with the tokens of names as text: 2.1 billion parameters."""
    block = Block(attention=Attention(heads=16), mlp=Mlp(ratio=6144 / 1408))
    image = PatchEncoder(width=1408, patch=18, depth=40, block=block, remat='full')
    size = model(Queried(image, queries=256), block=block, width=1408, unimodal=18, multimodal=18, remat='full')
    data = caption_emoji.learned(LANGUAGES, side=288)
    return dataclasses.replace(experiment(), name='coca_large', model=size, data=data, **CLUSTER)
