"""`clip_emoji` with SigLIP's loss: every pair of an image and a name is a yes/no question.

    scripts/mmjax train configs/siglip_emoji.py
    scripts/mmjax train configs/siglip_emoji.py:large    # a size for a cluster; not run here

Not measured yet: what configs/expected/siglip_emoji.json asks for (`scripts/check siglip_emoji`) is a guess.
"""

import dataclasses

from configs import clip_emoji
from mmjax.decoders.embedding import Temperature
from mmjax.experiment import Experiment
from mmjax.objectives.contrastive import ContrastiveSigmoid


def experiment() -> Experiment:
    return by_pair(clip_emoji.experiment(), name='siglip_emoji')


def large() -> Experiment:
    """`clip_emoji` at its largest: 2.5 billion parameters."""
    return by_pair(clip_emoji.large(), name='siglip_large')


def by_pair(clip: Experiment, *, name: str) -> Experiment:
    decoders = {**clip.model.decoders, 'temperature': Temperature(scale=10.0, bias=-10.0)}
    return dataclasses.replace(
        clip,
        name=name,
        model=clip.model.clone(decoders=decoders),
        objectives={'pairs': ContrastiveSigmoid(outputs=('image', 'text'))},
    )
