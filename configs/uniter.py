"""UNITER (Chen et al. 2020): one stream over text and image; what is masked is masked in one of the two at a time.

    scripts/mmjax train configs/uniter.py

As configs/vilbert.py, which says what is learned from what, with as many passes of the model in pretraining. What
distinguishes it: a single stream, of which all weights serve both modalities, and conditional masking (section 3.2): a
masked word is guessed from a whole image, a masked region from a whole caption, each in a pass of its own. Its
word-region alignment by optimal transport is not here.
Not measured yet: what configs/expected/uniter.json asks for is a guess.
"""

from configs.easy_vqa import block
from configs.vilbert import IMAGE, MATCHING, TEXT, stages
from mmjax.experiment import Experiment
from mmjax.fusion.early import Early
from mmjax.objectives.masked import MaskedPixels, MaskedTokens


def experiment() -> tuple[Experiment, ...]:
    return stages(
        Early(depth=4, block=block()),
        {'text': MaskedTokens(view=TEXT), 'image': MaskedPixels(view=IMAGE), 'match': MATCHING},
    )
