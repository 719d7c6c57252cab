"""How often encoders and fusion run for a set of objectives, and what is mined from what."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.data import train_batches
from mmjax.decoders.classification import MaskedMean
from mmjax.decoders.embedding import Embedded, Temperature
from mmjax.decoders.tokens import PatchPixels, TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.errors import UserError
from mmjax.experiment import Evaluation
from mmjax.fusion.early import Early
from mmjax.objectives.contrastive import ContrastiveSoftmax
from mmjax.objectives.cross_entropy import CrossEntropy
from mmjax.objectives.masked import MaskedPixels, MaskedTokens
from mmjax.train.passes import Views, run
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import create_state, key_for
from mmjax.train.step import gradients, train_step
from mmjax.views.masked import MaskedImage, MaskedText
from mmjax.views.matching import Matching
from mmjax.views.mined import HardNegatives
from mmjax.views.noise import Noise
from mmjax.views.redrawn import Redrawn
from mmjax.views.together import Together
from tests.train import toy

VECTORS = ('image_vector', 'text_vector')
TEXT, IMAGE = MaskedText(toy.WORDS.size), MaskedImage(patch=4)
OBJECTIVES = {
    'pairs': ContrastiveSoftmax(outputs=VECTORS),
    'hard': CrossEntropy(output='match', target='match', view=HardNegatives(outputs=VECTORS)),
    'text': MaskedTokens(view=TEXT),
    'image': MaskedPixels(view=IMAGE),
    'both_text': MaskedTokens(view=Together((TEXT, IMAGE))),
    'both_image': MaskedPixels(view=Together((TEXT, IMAGE))),
    'match': CrossEntropy(output='match', target='match', view=Matching()),
    'answer': CrossEntropy(),
    'drawings': ContrastiveSoftmax(
        outputs=('image_vector', 'beside/image_vector'), view=Noise('image', 0.2), beside=Redrawn(Noise('image', 0.2))
    ),
    'noisy_pairs': ContrastiveSoftmax(outputs=VECTORS, view=Noise('image', 0.2)),
}


def experiment(*names, **changes):
    decoders = {
        'answer': MaskedMean(classes=2),
        'match': MaskedMean(classes=2),
        'text': TokenLogits(vocabulary=toy.WORDS.size),
        'image': PatchPixels(patch=4),
        'image_vector': Embedded(streams=('image',), width=8),
        'text_vector': Embedded(streams=('text',), width=8),
        'temperature': Temperature(scale=5.0),
    }
    model = toy.model(dropout=0.0).clone(decoders=decoders)
    data = dataclasses.replace(toy.data(), cache=False)
    settings = {'model': model, 'objectives': {name: OBJECTIVES[name] for name in names}, 'data': data}
    return toy.experiment(**(settings | changes))


@functools.cache
def batch():
    stream = train_batches(experiment('answer').data, batch_size=16, seed=0)
    return {name: jnp.asarray(x) for name, x in next(stream).items()}


@pytest.mark.parametrize(
    ('names', 'encoders', 'fusions'),
    [
        (('answer',), 1, 1),
        (('pairs', 'answer'), 1, 1),
        (('pairs', 'hard'), 1, 2),
        (('pairs', 'hard', 'answer', 'text'), 2, 3),
        (('hard',), 1, 2),
        (('text', 'image'), 2, 2),
        (('both_text', 'both_image'), 1, 1),
        (('drawings',), 2, 2),
        (('drawings', 'noisy_pairs', 'pairs'), 3, 3),
        (tuple(OBJECTIVES), 7, 8),
    ],
)
def test_forward_passes_are_counted(monkeypatch, names, encoders, fusions):
    """Each distinct view runs encoders and fusion once; what is mined runs the fusion alone."""
    counts = dict.fromkeys((PatchEncoder, Early), 0)

    def counted(cls):
        called = cls.__call__

        def call(self, *args, **kwargs):
            counts[cls] += 1
            return called(self, *args, **kwargs)

        monkeypatch.setattr(cls, '__call__', call)

    asked = experiment(*names)
    shapes = shapes_of_batch(asked)
    state = jax.eval_shape(lambda: create_state(asked, shapes))
    for cls in counts:
        counted(cls)
    jax.eval_shape(lambda s, b: train_step(s, b, experiment=asked), state, shapes)
    assert counts == {PatchEncoder: encoders, Early: fusions}


def test_what_is_mined_is_the_model_on_the_pairs_put_together(random_parameters):
    """The fusion alone on encoded tokens gives what the whole model gives on the pairs themselves."""
    asked, key = experiment('pairs', 'hard'), jax.random.key(5)
    rows = batch() | {'text/present': jnp.arange(16) != 3}

    @jax.jit
    def both(params, rows):
        views = Views.of(asked)
        outputs, seen = run(asked, params, views, [rows], dropout=key, mining=key)
        found = views.mined[0].mine(outputs[0], rows, key)
        pairs = {
            name: x[found.rows[name.split('/')[0]]] for name, x in rows.items() if name.split('/')[0] in found.rows
        }
        return outputs[1]['match'], seen[1], asked.model.apply({'params': params}, pairs)['match'], found

    params = random_parameters(asked.model, batch())['params']
    mined, seen, whole, found = both(params, rows)
    assert mined.shape == (48, 2) and seen['weight'].shape == (48,)
    np.testing.assert_allclose(mined, whole, atol=1e-5)
    assert (np.asarray(found.rows['text']).reshape(16, 3)[:, 1] != np.arange(16)).all()


def test_what_is_compared_across_views_is_the_loss_of_both_passes():
    """Loss and gradients against the same by hand: two passes of the model, the scores in full; in one part and two."""
    asked = experiment('drawings')
    state, rows = toy.drawn(asked, shapes_of_batch(asked)), batch()
    key = key_for('view', seed=asked.seed, step=state.step)

    def by_hand(params):
        a, b = (asked.model.apply({'params': params}, view(rows, key)) for view in asked.objectives['drawings'].views)
        scores = jnp.exp(a['temperature'][0, 0]) * a['image_vector'] @ b['image_vector'].T
        both = (jax.nn.logsumexp(scores, axis=0) + jax.nn.logsumexp(scores, axis=1)) / 2
        return (both - jnp.diag(scores)).mean()

    loss, slopes = jax.jit(jax.value_and_grad(by_hand))(state.params)
    for accumulate in (1, 2):
        parts = dataclasses.replace(asked, optim=dataclasses.replace(asked.optim, accumulate=accumulate))
        grads, told, _ = jax.jit(functools.partial(gradients, experiment=parts))(state, rows)
        np.testing.assert_allclose(told['loss'], loss, rtol=1e-4)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), grads, slopes)
    assert float(optax.tree.norm(slopes['encoders_image'])) > 1e-3


def test_a_mined_view_has_nothing_beside_it():
    mined = dataclasses.replace(OBJECTIVES['drawings'], beside=HardNegatives(outputs=VECTORS))
    with pytest.raises(UserError, match=r'objectives\.drawings: rows of a mined view have no others beside them'):
        experiment(objectives={'drawings': mined}).check()


def test_mining_asks_for_the_whole_batch_and_for_training(tmp_path):
    optim = dataclasses.replace(toy.experiment().optim, accumulate=2)
    with pytest.raises(UserError, match='2 parts, but objective hard sees HardNegatives'):
        experiment('hard', optim=optim).check()
    evaluation = toy.experiment().evals['test']
    evaluation = Evaluation(evaluation.data, evaluation.evaluator, view=HardNegatives(outputs=VECTORS))
    with pytest.raises(UserError, match=r'evals\.test\.view: HardNegatives is mined while training'):
        experiment('answer', evals={'test': evaluation}).check()


@pytest.mark.parametrize(
    ('objective', 'told'),
    [
        (CrossEntropy(output='match', target='match'), "no field of the batch 'match'"),
        (MaskedTokens(view=MaskedText(4, modality='texts')), "no field of the batch 'texts'; did you mean 'text'"),
        (MaskedPixels(view=MaskedImage(patch=2)), r'masks 16 patches of 2x2x3 numbers, .* has 4 tokens of 48'),
    ],
)
def test_an_objective_that_cannot_be_met_is_told_before_anything_is_made(tmp_path, objective, told):
    with pytest.raises(UserError, match=told):
        train(experiment(objectives={'it': objective}), workdir=str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
