"""What the studies of this directory share: a small model over a scene and a text, and arms at its size."""

import dataclasses
from collections.abc import Mapping, Sequence

from mmjax.data import Data, Words
from mmjax.data.spread import Spread
from mmjax.decoders.classification import LogitSum
from mmjax.encoders.base import Encoder
from mmjax.encoders.text import TokenEncoder
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupCosine
from mmjax.study.study import Arm

WIDTH = 32

# What a design needs to stand in two layers of `WIDTH`; others need nothing.
FITTED = {
    'mid': ('--model.fusion.fusion-layer', '1'),
    'bottleneck': ('--model.fusion.num-tokens', '2'),
    'pairwise': ('--model.fusion.tower-depth', '1'),
    'concat': ('--model.fusion.hidden', '64'),
}


def arms(designs: Sequence[str]) -> tuple[Arm, ...]:
    """An arm for each design, by its name."""
    return tuple(Arm(name, (f'model.fusion={name}', *FITTED.get(name, ()))) for name in designs)


def spread(data: Data) -> Data:
    """So that a shuffled image is another image: in the files the questions on one follow each other."""
    return dataclasses.replace(data, source=Spread(data.source))


def base(
    name: str,
    *,
    seen: Mapping[str, Encoder],
    words: Words,
    classes: int,
    data: Data,
    evals: dict[str, Evaluation],
    steps: int,
    batch_size: int,
    warmup: int,
    log_every: int,
) -> Experiment:
    """Early fusion in two layers over the tokens of what is `seen` and the words of `text`; a sum of logits answers."""
    return Experiment(
        name=name,
        model=Model(
            encoders={**seen, 'text': TokenEncoder(vocabulary=words.size, width=WIDTH, depth=0)},
            fusion=Early(depth=2, block=Block(attention=Attention(heads=2)), unroll=2),
            decoders={'answer': LogitSum(classes=classes)},
        ),
        data=data,
        objectives={'answer': CrossEntropy()},
        evals=evals,
        optim=AdamW(schedule=WarmupCosine(warmup=warmup), decay=0.05),
        steps=steps,
        batch_size=batch_size,
        checkpoint=Checkpoint(every=10_000),
        log=Log(every=log_every, tensorboard=False),
    )
