"""`clip_emoji` with SigLIP's loss: every pair of an image and a name is a yes/no question.

    scripts/mmjax train configs/siglip_emoji.py

Not measured yet: what configs/expected/siglip_emoji.json asks for (`scripts/check siglip_emoji`) is a guess.
"""

import dataclasses

from configs import clip_emoji
from mmjax.decoders.embedding import Temperature
from mmjax.experiment import Experiment
from mmjax.objectives.contrastive import ContrastiveSigmoid


def experiment() -> Experiment:
    clip = clip_emoji.experiment()
    decoders = {**clip.model.decoders, 'temperature': Temperature(scale=10.0, bias=-10.0)}
    return dataclasses.replace(
        clip,
        name='siglip_emoji',
        model=clip.model.clone(decoders=decoders),
        objectives={'pairs': ContrastiveSigmoid(outputs=('image', 'text'))},
    )
