"""A run that takes seconds: a bright or dark image and a word; the answer is their exclusive or."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import Data, DropModality, Example, Image, Reader, Source, Words
from mmjax.decoders.classification import LogitSum
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.optim import AdamW, WarmupConstant
from mmjax.train.state import TrainState, create_state

WORDS = Words(key='text', vocabulary=('same', 'other'), length=3)


@dataclass(frozen=True)
class Toy(Source):
    rows: int = 100

    def open(self) -> Reader:
        return ToyReader(self.rows)


class ToyReader(Reader):
    def __init__(self, rows: int):
        self.rows, self.labels, self.fingerprint = rows, {'answer': ('no', 'yes')}, 'toy'

    def __len__(self) -> int:
        return self.rows

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self.example(row) for row in rows]

    @staticmethod
    def example(row: int) -> Example:
        rng = np.random.default_rng(row)
        bright, other = rng.integers(2, size=2).tolist()
        image = rng.integers(0, 100, (8, 8, 3)).astype(np.uint8) + np.uint8(150 * bright)
        return {'image': image, 'text': ('same', 'other')[other], 'answer': np.int32(bright ^ other)}


def model(*, dropout: float = 0.1, classes: int = 2) -> Model:
    """Layers in the fusion alone: each further stack would be compiled by every test that trains."""
    return Model(
        encoders={
            'image': PatchEncoder(width=16, patch=4, depth=0),
            'text': TokenEncoder(vocabulary=WORDS.size, width=16, depth=0),
        },
        fusion=Early(depth=2, block=Block(attention=Attention(heads=2), dropout=dropout)),
        decoders={'answer': LogitSum(classes=classes)},
    )


def experiment(**changes) -> Experiment:
    settings = {
        'name': 'toy',
        'model': model(),
        'data': data(random=True),
        'objectives': {'answer': CrossEntropy()},
        'evals': {'test': Evaluation(data(rows=21), Accuracy(), references={'chance': 0.5})},
        'optim': AdamW(schedule=WarmupConstant(peak=3e-3, warmup=5), ema=0.9, decay=0.01),
        'steps': 12,
        'batch_size': 16,
        'checkpoint': Checkpoint(every=4, keep=2),
        'log': Log(every=1, tensorboard=False),
    }
    return Experiment(**(settings | changes))


def data(*, rows: int = 100, random: bool = False) -> Data:
    drop = (DropModality({'image': 0.1, 'text': 0.1}),) if random else ()
    return Data(Toy(rows), (Image('image', size=8), WORDS, *drop))


def drawn(experiment: Experiment, batch: Mapping[str, Any]) -> TrainState:
    """A state of random numbers, for which nothing is compiled."""
    shapes, rng = jax.eval_shape(functools.partial(create_state, experiment, batch)), np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(0.1 * abs(rng.standard_normal(x.shape)), x.dtype), shapes)
