"""Does this name belong to this drawing? CNN + RNN, concatenated, self-attention, a match score: the articles' system.

    scripts/mmjax train configs/matching_cnn_rnn_attention.py          # two stages: the towers alone, then all of it
    scripts/mmjax train configs/matching_cnn_rnn_attention.py:large    # a size for a cluster; not run here

Drawings of emoji and their names in four languages. `towers` learns both encoders by CLIP's loss: the two-tower model
that the system stands beside, on the same data. `match` begins with these encoders and, in its score, with the maps of
the towers; half of the names that it sees are another's. `match/test_en/auc`: how likely a pair of emoji of which no
variant was in training scores above a mismatched one. `match/found_en`: recall@k where every name is tried with every
drawing, 28,561 passes of the fusion, beside `towers/found_en`, which needs none.
Measured with one seed (`scripts/check matching_cnn_rnn_attention`): an AUC of 64.6 % in English (56.2 to 72.1), 63.7
to 69.1 in the other three; the English name among the first ten of 169 in 24.3 % (17.0 to 33.4; chance 7.7, nearest
seen name 30.2), by the towers alone in 23.7 (16.3 to 33.1): self-attention over both adds nothing that is seen here.
"""

import dataclasses

from configs.clip_emoji import CLUSTER, FOUND, TEXT, image_tower, learned, references, split
from mmjax.data import Item
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.classification import Product
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.encoders.base import Encoder
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.evals.base import Evaluator
from mmjax.evals.matching import MatchAuc, MatchRetrieval
from mmjax.experiment import Evaluation, Experiment, InitFrom
from mmjax.fusion.early import Early
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine
from mmjax.views.matching import Matching

TESTED = {language: Item('text', LANGUAGES.index(language)) for language in ('en', 'de', 'es', 'fr')}
TOWERS = {'image': Embedded(streams=('image',)), 'text': Embedded(streams=('text',)), 'temperature': Temperature()}
# Parts of the towers' read-outs that the match score begins with.
SCORE = {
    f'decoders_{name}/{part}': f'decoders_match/{place}_{name}'
    for name in ('image', 'text')
    for part, place in (('norm_tokens', 'norm'), ('project', 'project'))
}
LEARNED = tuple(item.place for item in TESTED.values())
PAIRS, AUC = Matching(group='base'), MatchAuc(group='base')


def found(evaluator: Evaluator) -> Evaluation:
    """Retrieval in English, among unseen kinds."""
    return Evaluation(split('test', TESTED['en']), evaluator, references=references('en'))


def evals() -> dict[str, Evaluation]:
    """Match scores in four languages; in English also retrieval by them."""
    tests = {
        f'test_{language}': Evaluation(split('test', item), AUC, references={'chance': 0.5}, view=PAIRS)
        for language, item in TESTED.items()
    }
    validation = Evaluation(split('validation', TESTED['en']), AUC, every=250, view=PAIRS)
    return {'validation': validation, **tests, 'found_en': found(MatchRetrieval(group='base'))}


def encoders(image: ConvEncoder) -> dict[str, Encoder]:
    text = RecurrentEncoder(vocabulary=TEXT.size, width=image.width, cell='gru', bidirectional=True)
    return {'image': image, 'text': text}


def experiment() -> tuple[Experiment, ...]:
    towers = Experiment(
        name='towers',
        model=Model(encoders(image_tower()), Late(depth=0), TOWERS),
        data=learned(LEARNED),
        objectives={'pairs': ContrastiveSoftmax(outputs=('image', 'text'))},
        evals={'found_en': found(FOUND)},
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=100), decay=0.1),
        steps=1000,
        batch_size=128,
    )
    fusion = Early(depth=1, block=Block(attention=Attention(heads=4)))
    match = dataclasses.replace(
        towers,
        name='match',
        model=towers.model.clone(fusion=fusion, decoders={'match': Product(classes=2)}),
        objectives={'match': CrossEntropy(output='match', target='match', view=PAIRS)},
        evals=evals(),
        optim=AdamW(schedule=WarmupCosine(peak=5e-4, warmup=100), decay=0.1),
        init_from=InitFrom(stage='towers', map=SCORE),
    )
    return towers, match


def large() -> tuple[Experiment, ...]:
    """2.1 billion parameters, nearly all of them in the self-attention layers over both."""
    towers, match = experiment()
    parts = encoders(ConvEncoder(width=2048, channels=(256, 512, 1024, 2048)))
    fusion = Early(depth=40, block=Block(attention=Attention(heads=16)), remat='full')
    changes = {**CLUSTER, 'data': learned(LEARNED, side=224)}
    return (
        dataclasses.replace(towers, model=towers.model.clone(encoders=parts), **changes),
        dataclasses.replace(match, model=match.model.clone(encoders=parts, fusion=fusion), **changes),
    )
