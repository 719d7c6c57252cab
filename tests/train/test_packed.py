"""Training on packed rows is training on their examples; what cannot read such rows is told before."""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.data import Bytes, Data, Example, Image, Packed, Reader, Source, train_batches
from mmjax.data.base import Transform
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.learned import LearnedTokens
from mmjax.encoders.text import RecurrentEncoder, TokenEncoder
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation
from mmjax.fusion.concat import Concat
from mmjax.nn.positions import Learned
from mmjax.objectives.base import Objective
from mmjax.train.run import train
from mmjax.train.state import create_state
from mmjax.train.step import train_step
from tests.train import toy

TEXTS = ('a dog', 'cats', 'one more dog', 'so', 'the end')


@dataclass(frozen=True)
class Stories(Source):
    """Five texts, two of them without an image."""

    def open(self) -> Reader:
        return StoryReader()


class StoryReader(Reader):
    labels, fingerprint = {}, 'stories'

    def __len__(self) -> int:
        return len(TEXTS)

    def read(self, rows) -> list[Example]:
        return [self.example(row) for row in rows]

    @staticmethod
    def example(row):
        image = np.random.default_rng(row).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        return {'image': image if row % 2 == 0 else None, 'text': TEXTS[row]}


@dataclass(frozen=True)
class Prefix(Transform):
    """The first two letters read one another, each later one all before it."""

    key: str = 'text'

    def __call__(self, example, rng=None):
        return example | {'text/causal': (np.arange(len(example['text'])) >= 2).astype(np.int32)}


@dataclass(frozen=True)
class Next(Objective):
    """Cross-entropy of each letter but the prefix with the logits of the place before; a mean over letters."""

    def __call__(self, outputs, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs['text'][:, :-1], batch['text'][:, 1:])
        told = self._told(batch)
        return (losses * told).sum(axis=1) / jnp.maximum(told.sum(axis=1), 1)

    def weights(self, batch):
        return self._told(batch).sum(axis=1).astype(jnp.float32) * batch['weight']

    def _told(self, batch):
        segments = batch.get('text/segments', jnp.ones_like(batch['text']))
        same = segments[:, 1:] == segments[:, :-1]
        return same & (batch['text'][:, 1:] > 0) & (batch['text/causal'][:, 1:] > 0)


DATA = Data(Stories(), (Image(size=8), Bytes(length=12), Prefix()))
PACKED = Packed(DATA, lengths={'text': 14}, items={'image': 2})


def experiment(data, **changes):
    model = toy.model(dropout=0.0).clone(
        encoders={
            'image': PatchEncoder(width=16, patch=4, depth=0),
            'text': TokenEncoder(vocabulary=258, width=16, depth=0, positions=Learned(length=14)),
        },
        decoders={'text': TokenLogits(vocabulary=258)},
    )
    return toy.experiment(**({'model': model, 'data': data, 'objectives': {'next': Next()}, 'evals': {}} | changes))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))


def test_a_step_on_packed_rows_is_the_step_on_their_examples():
    """An epoch of five examples, and the same in its three rows: the loss and every parameter's gradient."""
    assert len(PACKED.open()) == 3
    told = []
    for data, size in ((DATA, 5), (PACKED, 3)):
        batch = next(train_batches(data, batch_size=size, seed=0))
        step = jax.jit(functools.partial(train_step, experiment=experiment(data)))
        state, metrics = step(jax.jit(functools.partial(create_state, experiment(data), batch))(), batch)
        told.append((state.opt_state, metrics))
    (moments, apart), (packed_moments, together) = told
    for name in apart:
        np.testing.assert_allclose(together[name], apart[name], rtol=2e-5, err_msg=name)
    assert float(apart['loss']) > 1 and float(apart['grad_norm/image']) > 0
    for expected, found in zip(jax.tree.leaves(moments), jax.tree.leaves(packed_moments), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)  # of the first step: gradients


def test_an_evaluation_is_of_one_split():
    evaluation = Evaluation(toy.data(), Accuracy())
    object.__setattr__(evaluation, 'data', PACKED)  # which the type alone does not admit
    with pytest.raises(UserError, match=r'evals.test.data is a Packed; score one split of one source'):
        experiment(DATA, evals={'test': evaluation}).check()


SHORT = TokenEncoder(vocabulary=258, width=16, depth=0, positions=Learned(length=8))


def changed(**parts):
    return experiment(PACKED).model.clone(**parts)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda: {'model': changed(fusion=Concat())},
            'model.fusion: Concat would not keep apart the examples of a row',
        ),
        (lambda: {'model': changed(decoders=toy.model().decoders)}, 'model.decoders.answer: LogitSum would not'),
        (
            lambda: {'model': changed(encoders={**experiment(PACKED).model.encoders, 'cls': LearnedTokens(width=16)})},
            'model.encoders.cls: LearnedTokens would not keep apart',
        ),
        (
            lambda: {
                'model': changed(encoders={'text': RecurrentEncoder(258, width=16), 'image': PatchEncoder(width=16)})
            },
            'model.encoders.text: RecurrentEncoder cannot keep examples apart.*packed.items, not packed.lengths',
        ),
        (
            lambda: {
                'data': dataclasses.replace(PACKED, lengths={'text': 24}),
                'model': changed(encoders={**experiment(PACKED).model.encoders, 'text': SHORT}),
            },
            'positions.length: 8 learned positions, but 12 places',
        ),
        (
            lambda: {'data': dataclasses.replace(PACKED, lengths={'image': 2}, items={'text': 3})},
            r"measure: 'image' is uint8 \[8, 8, 3\]: no sequence of ids",
        ),
        (lambda: {'data': dataclasses.replace(PACKED, lengths={'text': 11})}, 'example 2 of .* has 12 tokens'),
    ],
)
def test_what_cannot_read_packed_rows_is_told_before_training(make, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(experiment(**({'data': PACKED} | make())), workdir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
