"""ViLBERT (Lu et al. 2019): two streams that co-attend; pretrained on images with captions, then asked questions.

    scripts/mmjax train configs/vilbert.py                # pretraining, then six fine-tunings: with and without it
    scripts/mmjax train configs/vilbert.py --pretrain.steps 400 --seed 1
    scripts/mmjax train configs/vilbert.py:large    # COCO's captions, then VQA v2, on a cluster; not run here

Pretraining sees each training image of easy-VQA with a caption of our own making ("a red circle"), no question and no
answer: text and image masked at once (15 % each; of the image the pixels of patches stand for the paper's regions and
their classes), and whether a caption belongs to an image. Then VQA with the questions of 1 %, 10 %, 100 % of the
training set, once from the pretrained parameters (`tuned_1`, …) and once from fresh ones (`scratch_1`, …), all else
equal. Beside it, with as many passes of the model in pretraining, of as many FLOPs (3.52, 3.55, 3.57 GFLOP each, of 64
examples, forward and backward): configs/uniter.py, configs/vlbert.py, whose one stream has half the parameters.
The gain at each share of the labels, with intervals over seeds and images, is what

    scripts/pretraining_gain configs/vilbert.py configs/uniter.py configs/vlbert.py --clusters image_id

measures; the labels of a share are the same at every seed, so the intervals do not tell of other ones. The masked words
of a caption can all be known from its image, and the patches are nowhere scored. Measured with three seeds (`--seeds 0
1 2`), test accuracy from scratch, after pretraining, and the gain in points: with 1 % of the labels 70.3, 79.4, 9.0
(3.8 to 13.8); with 10 % 79.9, 94.9, 14.9 (12.2 to 17.8); with 100 % 86.0, 99.0, 13.0 (12.0 to 14.0).
"""

import dataclasses

from configs import coco_matching, vqa_v2
from configs.clip_emoji import CLUSTER
from configs.easy_vqa import FIELDS, REFERENCES, WORDS, block
from configs.vqa_v2 import ANSWERS
from mmjax.data import Data, Image, RandomShift, Tfds
from mmjax.decoders.base import Decoder
from mmjax.decoders.classification import LogitSum, MaskedMean
from mmjax.decoders.tokens import PatchPixels, TokenLogits
from mmjax.encoders.image import ConvEncoder, PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.evals.masked import MaskedAccuracy
from mmjax.evals.matching import MatchAuc
from mmjax.experiment import Evaluation, Experiment, InitFrom
from mmjax.fusion.base import Fusion
from mmjax.fusion.coattention import Coattention
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.norm import NoNorm
from mmjax.nn.positions import SinCos
from mmjax.objectives.base import Objective
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.objectives.masked import MaskedPixels, MaskedTokens
from mmjax.optim import AdamW, WarmupCosine
from mmjax.views.base import View
from mmjax.views.masked import MaskedImage, MaskedText
from mmjax.views.matching import Matching
from mmjax.views.together import Together

WIDTH, PATCH = 64, 16  # of a token, and the pixels that one stands for
TEXT, IMAGE = MaskedText(WORDS.size), MaskedImage(patch=PATCH, share=0.15)
BYTES, WIDE = MaskedText(vqa_v2.TEXT.size), Block(attention=Attention(heads=16))  # of `large`
MATCHING = CrossEntropy(output='match', target='match', view=Matching())
PASSES = 4000  # of the model over a batch, in pretraining, whatever views the objectives ask for
STEPS = {1: 400, 10: 800, 100: 1600}  # of fine-tuning, by the share of the labels in percent


def model(fusion: Fusion, decoders: dict[str, Decoder]) -> Model:
    image = ConvEncoder(width=WIDTH, channels=(16, 32, 64, 64), norm=NoNorm(), positions=SinCos())
    text = TokenEncoder(vocabulary=WORDS.size, width=WIDTH, depth=0)
    return Model(encoders={'image': image, 'text': text}, fusion=fusion, decoders=decoders)


def captions(split: str, *augment: RandomShift) -> Data:
    source = Tfds('easy_vqa/captions', split, {'image': 'image', 'text': 'caption'})
    return Data(source, (Image('image', size=64), WORDS, *augment))


def questions(split: str, *augment: RandomShift) -> Data:
    return Data(Tfds('easy_vqa', split, FIELDS), (Image('image', size=64), WORDS, *augment))


def heads(objectives: dict[str, Objective], *, vocabulary: int) -> dict[str, Decoder]:
    """What pretraining by the objectives reads."""
    asked = {objective.output for objective in objectives.values()}  # pyright: ignore[reportAttributeAccessIssue]
    text = TokenLogits(vocabulary=vocabulary)
    known = {'text': text, 'image': PatchPixels(patch=PATCH), 'match': LogitSum(classes=2)}
    return {name: head for name, head in known.items() if name in asked}


def stages(fusion: Fusion, objectives: dict[str, Objective]) -> tuple[Experiment, ...]:
    """Pretraining by the objectives, and fine-tuning from it and from nothing."""
    shift = RandomShift('image', pixels=4)
    decoders = heads(objectives, vocabulary=WORDS.size)
    evals = {'text': Evaluation(captions('test'), MaskedAccuracy(), references={'without the image': 0.49}, view=TEXT)}
    if 'match' in decoders:
        evals['match'] = Evaluation(captions('test'), MatchAuc(), references={'chance': 0.5}, view=MATCHING.view)
    pretrain = Experiment(
        name='pretrain',
        model=model(fusion, decoders),
        data=captions('train', shift),
        objectives=objectives,
        evals=evals,
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=100), decay=0.05),
        steps=PASSES // len({objective.view for objective in objectives.values()}),
        batch_size=64,
    )
    vqa = dataclasses.replace(
        pretrain,
        model=model(fusion, {'answer': LogitSum(classes=13)}),
        objectives={'answer': CrossEntropy()},
        evals={'test': Evaluation(questions('test'), Accuracy(by='kind'), references=REFERENCES)},
        batch_size=32,
    )
    tuned = [
        dataclasses.replace(
            vqa,
            name=f'{name}_{share}',
            data=questions(f'train[:{share}%]', shift),
            steps=steps,
            init_from=InitFrom(stage=start),
        )
        for name, start in (('tuned', 'pretrain'), ('scratch', ''))
        for share, steps in STEPS.items()
    ]
    return pretrain, *tuned


def large_stages(fusion: Fusion, objectives: dict[str, Objective]) -> tuple[Experiment, ...]:
    """Pretraining on photographs with captions, questions about photographs after it and from nothing. The data are
    those of configs/coco_matching.py and configs/vqa_v2.py, which say how to prepare them.
    """
    width = 2048
    image = PatchEncoder(width=width, patch=PATCH, depth=0, positions=SinCos())
    text = TokenEncoder(vocabulary=BYTES.vocabulary, width=width, depth=0, positions=SinCos())
    asked = Model(
        encoders={'image': image, 'text': text}, fusion=fusion, decoders={'answer': MaskedMean(classes=ANSWERS)}
    )
    pretrain = Experiment(
        name='pretrain',
        model=asked.clone(decoders=heads(objectives, vocabulary=BYTES.vocabulary)),
        data=coco_matching.data(Tfds('coco_captions', 'train+restval', coco_matching.FIELDS), *coco_matching.AUGMENT),
        objectives=objectives,
        optim=AdamW(schedule=WarmupCosine(peak=1e-4, warmup=10_000), decay=0.1),
        **CLUSTER,
    )
    vqa = dataclasses.replace(vqa_v2.experiment(), model=asked, mesh=pretrain.mesh, batch_size=2048)
    return (
        pretrain,
        dataclasses.replace(vqa, name='tuned', init_from=InitFrom(stage='pretrain')),
        dataclasses.replace(vqa, name='scratch'),
    )


def objectives(text: View, image: View) -> dict[str, Objective]:
    both = Together((text, image))
    return {'text': MaskedTokens(view=both), 'image': MaskedPixels(view=both), 'match': MATCHING}


def experiment() -> tuple[Experiment, ...]:
    return stages(Coattention(depth=3, block=block()), objectives(TEXT, IMAGE))


def large() -> tuple[Experiment, ...]:
    """2.1 billion parameters."""
    return large_stages(Coattention(depth=16, block=WIDE, remat='full'), objectives(BYTES, IMAGE))
