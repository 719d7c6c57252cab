"""`clip_emoji` with SigLIP's loss: every pair of an image and a name is a yes/no question.

    scripts/mmjax train configs/siglip_emoji.py
    scripts/mmjax train configs/siglip_emoji.py:large    # a size for a cluster; not run here

Measured with one seed (`scripts/check siglip_emoji`), recall@10 from image to name: English 24.3 % (17.6 to 32.4),
German 22.5, Russian 26.6, Japanese 24.3, Portuguese, which it never saw, 17.8 (11.2 to 27.0): above chance, and not
above `nearest_seen@10`. Korean, unseen too, 4.1 (2.0 to 8.3), is not above chance. It is not told apart from
`clip_emoji`.
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
