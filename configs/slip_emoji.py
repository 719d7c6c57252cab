"""SLIP (Mu et al. 2022): `clip_emoji`, and two augmented drawings of one emoji that find each other (SimCLR).

    scripts/mmjax train configs/slip_emoji.py
    scripts/mmjax eval runs/slip_emoji --by configs/slip_emoji.py:styles    # drawings in an unseen style; needs a font
    scripts/mmjax train configs/slip_emoji.py:large    # a size for a cluster; not run here

Each step sees every drawing twice, cropped and recoloured at random by views on the device; the first is also paired
with its name (the paper pairs a third, only cropped). A drawing has a vector for each loss, by a linear map where the
paper's second has a hidden layer, from all cells of the last grid: their mean forgets what stands where.

Measured with one seed: of drawings of unseen kinds in another style 25.6 % (18.8 to 33.8) find their counterpart
first (`scripts/check slip_emoji_styles`), where pixels find 15.5 % and `clip_emoji` 4.8; of kinds that it saw, among
eight times as many, 9.9 % (8.3 to 11.7; pixels 7.8). What of it comes from the second loss, from changed drawings or
from the cells was not taken apart. Recall@10 from image to name is that of `clip_emoji` within the intervals
(`scripts/check slip_emoji`): English 26.0 % (18.5 to 35.4; chance 7.7, nearest seen name 30.2; from name to image
23.1), Portuguese, which it never saw, 23.1 (16.2 to 31.8; 17.2). Korean, unseen too, is not above chance.
"""

import dataclasses

from configs import clip_emoji
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.experiment import Experiment
from mmjax.nn.pool import FlatPool, MeanPool, Pool
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.views.augmented import Cropped, Recolored
from mmjax.views.redrawn import Redrawn
from mmjax.views.together import Together

AUGMENTED = Together((Cropped(area=(0.4, 1.0)), Recolored(saturation=0.8)))


def experiment() -> Experiment:
    return dataclasses.replace(twice(clip_emoji.experiment(), FlatPool(), width=128), name='slip_emoji', steps=1200)


def large() -> Experiment:
    """`clip_emoji` at its largest: 2.5 billion parameters, each drawing seen twice."""
    return dataclasses.replace(twice(clip_emoji.large(), MeanPool(), width=1280), name='slip_large')


def twice(clip: Experiment, pool: Pool, *, width: int) -> Experiment:
    """With the second loss, on vectors and a temperature of its own."""
    decoders = {
        **clip.model.decoders,
        'image': Embedded(streams=('image',), pool=pool, width=width),
        'drawing': Embedded(streams=('image',), pool=pool, width=width),
        'drawing_temperature': Temperature(scale=10.0),
    }
    objectives = {
        'pairs': ContrastiveSoftmax(outputs=('image', 'text'), view=AUGMENTED),
        'drawings': ContrastiveSoftmax(
            outputs=('drawing', 'beside/drawing'),
            temperature='drawing_temperature',
            view=AUGMENTED,
            beside=Redrawn(AUGMENTED),
        ),
    }
    return dataclasses.replace(clip, model=clip.model.clone(decoders=decoders), objectives=objectives)


def styles() -> Experiment:
    """`clip_emoji.styles`, by the vector that the second loss has trained."""
    evals = {
        name: dataclasses.replace(found, evaluator=dataclasses.replace(found.evaluator, output='drawing'))
        for name, found in clip_emoji.styles().evals.items()
    }
    return dataclasses.replace(experiment(), evals=evals)
