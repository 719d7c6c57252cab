"""UNITER (Chen et al. 2020): one stream over text and image; what is masked is masked in one of the two at a time.

    scripts/mmjax train configs/uniter.py
    scripts/mmjax train configs/uniter.py:large    # COCO's captions, then VQA v2, on a cluster; not run here

As configs/vilbert.py, which says what is learned from what, with as many passes of the model in pretraining. What
distinguishes it: a single stream, of which all weights serve both modalities, and conditional masking (section 3.2): a
masked word is guessed from a whole image, a masked region from a whole caption, each in a pass of its own. Its
word-region alignment by optimal transport is not here.
Measured with three seeds, as configs/vilbert.py says: with 1 % of the labels 70.6, 77.8, 7.2 points (6.1 to 8.3); with
10 % 79.3, 89.6, 10.2 (7.5 to 12.9); with 100 % 85.6, 97.5, 11.9 (7.9 to 15.7).
"""

from configs.easy_vqa import block
from configs.vilbert import BYTES, IMAGE, MATCHING, TEXT, WIDE, large_stages, stages
from mmjax.experiment import Experiment
from mmjax.fusion.early import Early
from mmjax.objectives.base import Objective
from mmjax.objectives.masked import MaskedPixels, MaskedTokens
from mmjax.views.base import View


def objectives(text: View, image: View) -> dict[str, Objective]:
    return {'text': MaskedTokens(view=text), 'image': MaskedPixels(view=image), 'match': MATCHING}


def experiment() -> tuple[Experiment, ...]:
    return stages(Early(depth=4, block=block()), objectives(TEXT, IMAGE))


def large() -> tuple[Experiment, ...]:
    """2.1 billion parameters."""
    return large_stages(Early(depth=42, block=WIDE, remat='full'), objectives(BYTES, IMAGE))
