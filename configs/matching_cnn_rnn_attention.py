"""Does this name belong to this drawing? CNN + RNN, concatenated, self-attention, a match score: the articles' system.

    scripts/mmjax train configs/matching_cnn_rnn_attention.py

Drawings of emoji and their names in twelve languages, those of `clip_emoji`, whose two towers it stands beside on the
same test split: half of the names that it sees are another's. `test_en/auc`: how likely a pair of emoji of which no
variant was in training scores above a mismatched one. `found_en`: recall@k where every name is tried with every
drawing, 28,561 passes of the fusion, beside `clip_emoji`'s `test_en`, which needs none.
Not measured yet: what configs/expected/matching_cnn_rnn_attention.json asks for is a guess.
"""

from configs.clip_emoji import NEAREST, SEEN, TEXT, references, split
from mmjax.data import AnyItem, Item, RandomShift
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import ConvEncoder
from mmjax.encoders.text import RecurrentEncoder
from mmjax.evals.matching import MatchAuc, MatchRetrieval
from mmjax.experiment import Evaluation, Experiment
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine
from mmjax.views.matching import Matching

PAIRS = Matching(group='base')


def evals() -> dict[str, Evaluation]:
    """Match scores in four languages; in English also retrieval by them."""
    named = {language: Item('text', LANGUAGES.index(language)) for language in NEAREST}
    auc = {
        f'test_{language}': Evaluation(split('test', item), MatchAuc(), references={'chance': 0.5}, view=PAIRS)
        for language, item in named.items()
    }
    return {
        'validation': Evaluation(split('validation', named['en']), MatchAuc(), every=500, view=PAIRS),
        **auc,
        'found_en': Evaluation(split('test', named['en']), MatchRetrieval(group='base'), references=references('en')),
    }


def experiment() -> Experiment:
    width = 96
    return Experiment(
        name='matching_cnn_rnn_attention',
        model=Model(
            encoders={
                'image': ConvEncoder(width=width, channels=(16, 32, 64, 128), norm=NoNorm()),
                'text': RecurrentEncoder(vocabulary=TEXT.size, width=width, cell='gru', bidirectional=True),
            },
            fusion=Early(depth=1, block=Block(attention=Attention(heads=4))),
            decoders={'match': MaskedMean(classes=2)},
        ),
        data=split('train+train_flags', AnyItem('text', SEEN), RandomShift('image', pixels=6)),
        objectives={'match': CrossEntropy(output='match', target='match', view=PAIRS)},
        evals=evals(),
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=100), decay=0.1),
        steps=1500,
        batch_size=128,
    )
