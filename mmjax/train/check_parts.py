"""What `check_accelerator` and `mesh_equality` train: models of image and text on examples that are drawn."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import Data, Example, Image, Reader, Source, Words
from mmjax.data.synthetic import Ids, Pixels, Synthetic
from mmjax.decoders.classification import LogitSum
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.decoders.tokens import DeferredLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.experiment import Checkpoint, Experiment, Log
from mmjax.fusion.cross import CrossAttention
from mmjax.fusion.early import Early
from mmjax.fusion.routed import Routed
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.kernels import LONG
from mmjax.nn.pool import LastPool, ProbePool
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupConstant
from mmjax.types import Tokens

LETTERS = 'abcdefghijklmnop'
CLASSES = 4
PATCH = 4


@dataclass(frozen=True)
class Size:
    """side: of the image, in pixels. length: of the text, in words. steps: how many are timed in one round."""

    width: int = 64
    depth: int = 2
    heads: int = 4
    side: int = 16
    length: int = 16
    batch: int = 32
    steps: int = 4


SMALL = Size()


def size_for(backend: str, devices: int) -> Size:
    """A step that is worth timing: some GFLOP on a CPU, some TFLOP a device elsewhere."""
    if backend == 'cpu':
        return Size(width=128, depth=2, batch=max(32, devices))
    return Size(width=1024, depth=16, heads=16, side=64, length=256, batch=32 * devices, steps=10)


@dataclass(frozen=True)
class Drawn(Source):
    """Examples from random numbers: an image whose brightness and a text whose first letter say the answer together."""

    rows: int = 512
    side: int = SMALL.side
    length: int = SMALL.length

    def open(self) -> Reader:
        return _Drawn(self)


class _Drawn(Reader):
    def __init__(self, source: Drawn):
        self._source, self.labels, self.fingerprint = source, {}, repr(source)

    def __len__(self) -> int:
        return self._source.rows

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self._example(row) for row in rows]

    def _example(self, row: int) -> Example:
        rng, source = np.random.default_rng(row), self._source
        bright = int(rng.integers(2))
        letters = rng.integers(len(LETTERS), size=source.length)
        image = (rng.integers(0, 128, (source.side, source.side, 3)) + 127 * bright).astype(np.uint8)
        answer = np.int32((bright + letters[0]) % CLASSES)
        return {'image': image, 'text': ' '.join(LETTERS[i] for i in letters), 'answer': answer}


def experiment(size: Size) -> Experiment:
    """With dropout, so that draws count too."""
    words = Words(key='text', vocabulary=tuple(LETTERS), length=size.length)
    block = Block(attention=Attention(heads=size.heads), dropout=0.1)
    vocabulary = -(-words.size // 8) * 8  # a table that can be cut
    return Experiment(
        name='check_accelerator',
        model=Model(
            encoders={
                'image': PatchEncoder(width=size.width, patch=PATCH, depth=0),
                'text': TokenEncoder(vocabulary=vocabulary, width=size.width, depth=0),
            },
            fusion=Early(depth=size.depth, block=block),
            decoders={'answer': LogitSum(classes=CLASSES)},
        ),
        data=Data(Drawn(side=size.side, length=size.length), (Image('image', size=size.side), words)),
        objectives={'answer': CrossEntropy()},
        evals={},
        optim=AdamW(schedule=WarmupConstant(peak=1e-3, warmup=5)),
        batch_size=size.batch,
        checkpoint=Checkpoint(every=3),
        log=Log(every=1, tensorboard=False),
    )


def mixture(size: Size) -> Experiment:
    """The same with a mixture of four experts in each layer, so that a mesh can cut experts too."""
    base = experiment(size)
    fusion = Routed(depth=size.depth, block=base.model.fusion.block, experts=4)  # pyright: ignore
    return dataclasses.replace(base, model=base.model.clone(fusion=fusion))


def captions(size: Size) -> Experiment:
    """What `mixture` has not: a text that is written and compared with its image over the whole batch (Yu et al. 2022),
    the batch in parts, logits by parts, layers that are computed again, a moving average.
    """
    base, width, words = experiment(size), size.width, 8 * len(LETTERS)
    block = Block(attention=Attention(heads=size.heads), dropout=0.1)
    layers: dict[str, Any] = {'block': block, 'remat': 'full'}
    fields = {'image': Pixels(width=size.side), 'text': Ids(length=size.length, vocabulary=words, prompt=2)}
    model = Model(
        encoders={
            'image': PatchEncoder(width=width, patch=PATCH, depth=1, **layers),
            'text': TokenEncoder(vocabulary=words, width=width, depth=1, **layers),
        },
        fusion=CrossAttention(depth=1, **layers),
        decoders={
            'text': DeferredLogits(vocabulary=words, parts=2),
            'image_vector': Embedded(streams=('image',), pool=ProbePool(attention=block.attention)),
            'text_vector': Embedded(streams=('text',), pool=LastPool()),
            'temperature': Temperature(),
        },
    )
    pairs = ContrastiveSoftmax(outputs=('image_vector', 'text_vector'))
    return dataclasses.replace(
        base,
        model=model,
        data=Data(Synthetic(fields, rows=512), cache=False),
        objectives={'text': NextToken(), 'pairs': pairs},
        optim=dataclasses.replace(base.optim, accumulate=2, ema=0.9),
    )


def tokens(*, rows: int = 4, length: int = LONG, width: int = 64) -> Tokens:
    """Rows of several lengths, one of them empty, half of each prefix and half causal: all that a mask can say."""
    values = jax.random.normal(jax.random.key(1), (rows, length, width))
    real = np.linspace(length, 0, rows).astype(int)
    mask = jnp.arange(length) < jnp.asarray(real)[:, None]
    causal = jnp.broadcast_to((jnp.arange(length) >= length // 2).astype(jnp.int32), mask.shape)
    return Tokens.of(values, mask, causal=causal)
