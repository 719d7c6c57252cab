"""VL-BERT (Su et al. 2020): one stream, in which every word is added what the whole image looks like.

    scripts/mmjax train configs/vlbert.py
    scripts/mmjax train configs/vlbert.py:large    # COCO's captions, then VQA v2, on a cluster; not run here

As configs/vilbert.py, which says what is learned from what, with as many passes of the model in pretraining. What
distinguishes it: the visual feature embedding of every element (`mmjax/fusion/visual_embedding.py`), and pretraining by
masked words with visual clues and masked regions with linguistic clues alone, in one pass: whether a caption belongs to
an image is not asked, which the authors found no better (section 3.3). Its text-only corpus is not here.
Measured with three seeds, as configs/vilbert.py says: with 1 % of the labels 70.7, 80.0, 9.3 points (-0.3 to 18.7);
with 10 % 80.6, 89.1, 8.5 (6.9 to 10.1); with 100 % 84.5, 93.5, 9.0 (4.9 to 13.7).
"""

from configs.easy_vqa import block
from configs.vilbert import BYTES, IMAGE, TEXT, WIDE, large_stages, stages
from mmjax.experiment import Experiment
from mmjax.fusion.visual_embedding import VisualEmbedding
from mmjax.objectives.base import Objective
from mmjax.objectives.masked import MaskedPixels, MaskedTokens
from mmjax.views.base import View
from mmjax.views.together import Together


def objectives(text: View, image: View) -> dict[str, Objective]:
    both = Together((text, image))
    return {'text': MaskedTokens(view=both), 'image': MaskedPixels(view=both)}


def experiment() -> tuple[Experiment, ...]:
    return stages(VisualEmbedding(depth=4, block=block()), objectives(TEXT, IMAGE))


def large() -> tuple[Experiment, ...]:
    """2.1 billion parameters."""
    return large_stages(VisualEmbedding(depth=42, block=WIDE, remat='full'), objectives(BYTES, IMAGE))
