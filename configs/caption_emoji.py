"""Captions in a requested language by a prefix-LM: the name of an emoji after its drawing and `de:`.

    scripts/train_tokenizer configs/caption_emoji.py    # its byte-pair tokens, from the names in training; some seconds
    scripts/mmjax train configs/caption_emoji.py        # two stages: the image tower, by SLIP; then the captions
    scripts/mmjax predict runs/caption_emoji/caption --image cat.png --text de:
    scripts/mmjax train configs/caption_emoji.py:large  # a size for a cluster, in all fourteen languages; not run here

`towers` is `slip_emoji`, a third as long. `caption` begins with its image tower: one stream of image tokens, the
prompt, and the tokens of the name, of which each reads the drawing, the prompt and the tokens before it (`Early` over
causal text). Every step shows each emoji with its name in one of four languages, another each time. Scored on names
that are written greedily, and in English by beam search too.

What to expect: the emoji of `test` are of kins of which none was in training, so their names are mostly made of words
that were never seen with that drawing, if at all. Two floors: `other_en`, what the same model writes when it is shown
another's drawing of the same batch; and the name of the training emoji whose pixels are nearest (`scripts/floor
configs/caption_emoji.py`).
Measured with one seed: chrF 19.0 in English (14.3 to 23.7; 20.1 by beam search), where another's drawing gives 8.4
(7.1 to 9.6) and the nearest drawing's name 20.9; German 22.9 (nearest 23.8), Spanish 21.2 (23.9), French 17.0 (22.4);
CIDEr-D 0.35 in English (nearest 0.47), exact match 0 (0). So the drawing is read, also of an unseen kind, and the
captions are not better than the nearest drawing's name, in French worse; of drawings that it had seen it has 32.2.
`scripts/check caption_emoji` asks that the intervals of right and wrong drawings are apart. The tokens are learned
from the names in all fourteen languages; a few names are longer than their row, and cut.
"""

import dataclasses

from configs import slip_emoji
from configs.clip_emoji import CLUSTER, image_tower
from mmjax.data import AnyLanguage, Bpe, Data, Image, InLanguage, Item, PromptAnswer, RandomShift, References, Tfds
from mmjax.data.base import Transform
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.captions import Captions
from mmjax.experiment import Evaluation, Experiment, InitFrom
from mmjax.fusion.early import Early
from mmjax.generate.beam import Beam
from mmjax.generate.generate import Generate
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.positions import Learned
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupCosine
from mmjax.views.mismatched import Mismatched

FIELDS = {'image': 'image', 'text': 'names'}
VOCABULARY = '67556cb644960304a5a11fce238b39545eec7d86082027eb0a581273635a13fe'
TEXT = PromptAnswer(Bpe('emoji/bpe_2048.json', VOCABULARY, size=2048, length=20))
LEARNED = ('en', 'de', 'es', 'fr')
WRITTEN = Generate(end=TEXT.end, length=TEXT.length)

# The name of the nearest training emoji by pixels, on `test`: `scripts/floor configs/caption_emoji.py`.
NEAREST = {
    'en': {'nearest chrf': 20.85, 'nearest cider_d': 0.465, 'nearest exact_match': 0.0},
    'de': {'nearest chrf': 23.83, 'nearest cider_d': 0.470, 'nearest exact_match': 0.0},
    'es': {'nearest chrf': 23.85, 'nearest cider_d': 0.618, 'nearest exact_match': 0.0},
    'fr': {'nearest chrf': 22.43, 'nearest cider_d': 0.535, 'nearest exact_match': 0.0},
}


def learned(languages: tuple[str, ...] = LEARNED, *, side: int = 64) -> Data:
    """side: of a drawing, in pixels."""
    shift = RandomShift('image', pixels=round(0.1 * side))
    transforms = (Image('image', size=side), shift, AnyLanguage(LANGUAGES, among=languages), TEXT)
    return Data(Tfds('emoji', 'train+train_flags', FIELDS), transforms)


def scored(split: str, language: str) -> Data:
    """With the name that is to be written as reference."""
    source = Tfds('emoji', split, {**FIELDS, 'references': 'names'})
    named: tuple[Transform, ...] = (Item('references', LANGUAGES.index(language)), References(length=128))
    return Data(source, (Image('image', size=64), InLanguage(LANGUAGES, language), TEXT, *named))


def evaluations(written: Generate = WRITTEN) -> dict[str, Evaluation]:
    beams = dataclasses.replace(written, search=Beam(width=4))
    tests = {
        f'test_{language}': Evaluation(scored('test', language), Captions(), references=floor, predictor=written)
        for language, floor in NEAREST.items()
    }
    return {
        'validation': Evaluation(scored('validation', 'en'), Captions(), every=500, predictor=written),
        'seen_en': Evaluation(scored('train[:200]', 'en'), Captions(), predictor=written),
        **tests,
        'test_en_beam': Evaluation(scored('test', 'en'), Captions(), references=NEAREST['en'], predictor=beams),
        'other_en': Evaluation(scored('test', 'en'), Captions(), predictor=written, view=Mismatched(('image',))),
    }


def experiment() -> tuple[Experiment, ...]:
    towers = dataclasses.replace(slip_emoji.experiment(), name='towers', evals={}, steps=400)
    start = InitFrom(stage='towers', left_out=('encoders_text',))
    return towers, dataclasses.replace(captioning(), init_from=start)


def captioning() -> Experiment:
    """The second stage, from nothing."""
    width, block = 128, Block(attention=Attention(heads=4))
    return Experiment(
        name='caption',
        model=Model(
            encoders={
                'image': image_tower(),
                'text': TokenEncoder(vocabulary=TEXT.size, width=width, depth=0, positions=Learned(TEXT.length)),
            },
            fusion=Early(depth=3, block=block, unroll=3),
            decoders={'text': TokenLogits(vocabulary=TEXT.size)},
        ),
        data=learned(),
        objectives={'caption': NextToken()},
        evals=evaluations(),
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=200), decay=0.1),
        steps=2500,
        batch_size=64,
    )


def large() -> Experiment:
    """A prefix-LM of 2.5 billion parameters on patches of 14 pixels, as PaliGemma has them."""
    width, block = 2048, Block(attention=Attention(heads=16))
    model = Model(
        encoders={
            'image': PatchEncoder(width=width, patch=14, depth=0),
            'text': TokenEncoder(vocabulary=TEXT.size, width=width, depth=0, positions=Learned(TEXT.length)),
        },
        fusion=Early(depth=48, block=block, remat='full'),
        decoders={'text': TokenLogits(vocabulary=TEXT.size)},
    )
    data = learned(LANGUAGES, side=224)
    return dataclasses.replace(captioning(), name='caption_large', model=model, data=data, **CLUSTER)
