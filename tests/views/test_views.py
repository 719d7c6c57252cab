"""Views: what they change, what they leave, and that objectives and evaluations see through them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import create_state
from mmjax.train.step import train_step
from mmjax.views.absent import Constant, Without
from mmjax.views.base import Clean
from mmjax.views.mismatched import Mismatched, derangement
from mmjax.views.noise import Noise
from tests.train import toy

KEY = jax.random.key(3)


def batch(rows: int = 16, real: int = 13):
    examples = [toy.ToyReader.example(row) for row in range(rows)]
    return {
        'image': jnp.stack([e['image'] for e in examples]),
        'image/present': jnp.arange(rows) != 4,
        'text': jnp.arange(2, rows * 3 + 2).reshape(rows, 3) % 7,
        'text/present': jnp.ones(rows, bool),
        'answer': jnp.arange(rows),
        'weight': (jnp.arange(rows) < real).astype(jnp.float32),
    }


@pytest.mark.parametrize(
    ('view', 'changed'),
    [
        (Clean(), set()),
        (Without(('image',)), {'image/present'}),
        (Without(('image', 'text')), {'image/present', 'text/present'}),
        (Constant(('text',)), {'text'}),
        (Mismatched(('image',)), {'image', 'image/present'}),
        (Mismatched(('answer',)), {'answer'}),
        (Noise('image', 0.2), {'image'}),
        (Noise('text', 0.5), {'text'}),
        (Noise('image', 0.0), set()),
    ],
)
def test_a_view_changes_its_fields_alone_and_keeps_shapes(view, changed):
    before = batch()
    after = jax.jit(view)(before, KEY)
    assert after.keys() == before.keys()
    for name, x in before.items():
        assert (after[name].shape, after[name].dtype) == (x.shape, x.dtype)
        assert np.array_equal(after[name], x) == (name not in changed), name


@pytest.mark.parametrize('real', [16, 13, 2, 1, 0])
@pytest.mark.parametrize('seed', range(5))
def test_no_row_is_its_own_partner_and_filling_rows_are_nobodys(real, seed):
    mask = np.zeros(16, bool)
    mask[np.random.default_rng(seed).permutation(16)[:real]] = True
    partner = np.asarray(derangement(jnp.asarray(mask), jax.random.key(seed)))
    rows = np.arange(16)
    assert sorted(partner) == list(rows)  # nobody is used twice
    assert (partner[~mask] == rows[~mask]).all()
    assert mask[partner[mask]].all()
    assert real < 2 or (partner[mask] != rows[mask]).all()


def test_partners_differ_from_step_to_step_and_bring_presence_along():
    real = jnp.ones(64, bool)
    one, two = (np.asarray(derangement(real, jax.random.key(seed))) for seed in (0, 1))
    assert (one == two).mean() < 0.2
    seen = Mismatched(('image',))(batch(real=16), KEY)
    (at,) = np.flatnonzero(~np.asarray(seen['image/present']))
    assert at != 4 and np.array_equal(seen['image'][at], batch()['image'][4])


def test_noise_has_its_level():
    gray = {'image': jnp.full((64, 16, 16, 3), 128, jnp.uint8), 'text': jnp.ones((4000, 5), jnp.int32)}
    noisy = np.asarray(Noise('image', 0.1)(gray, KEY)['image'], float)
    assert noisy.mean() == pytest.approx(128, abs=0.5) and noisy.std() == pytest.approx(25.5, rel=0.02)
    lost = np.asarray(Noise('text', 0.3)(gray, KEY)['text']) == 0
    assert lost.mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(('view', 'told'), [(Without(('imge',)), "no field of the batch 'imge'; did you mean 'image'"),
                                            (Mismatched(('anser',)), "did you mean 'answer'")])  # fmt: skip
def test_a_field_that_is_not_there_is_told(view, told):
    with pytest.raises(UserError, match=told):
        view(batch(), KEY)
    with pytest.raises(UserError, match='from 0 to 1'):
        Noise('image', 1.5)


def objectives(*views):
    (objective,) = toy.experiment().objectives.values()
    return {f'o{i}': dataclasses.replace(objective, view=view) for i, view in enumerate(views)}


def gradients(experiment):
    shapes = shapes_of_batch(experiment)
    state = toy.drawn(experiment, shapes)
    rows = batch()
    rows = {name: rows.get(name, jnp.ones(x.shape, x.dtype)).astype(x.dtype) for name, x in shapes.items()}
    rows |= {'text': jnp.ones_like(rows['text']), 'answer': rows['answer'] % 2}
    return jax.jit(lambda s, b: train_step(s, b, experiment=experiment))(state, rows)[1]


def test_what_an_objective_does_not_see_gets_no_gradient():
    told = gradients(toy.experiment(objectives=objectives(Without(('image',)))))
    assert told['grad_norm/image'] == 0 and told['grad_norm/text'] > 0
    clean = gradients(toy.experiment(objectives=objectives(Clean())))
    assert clean['grad_norm/image'] > 0


def test_each_distinct_view_runs_the_model_once(monkeypatch):
    calls = []
    model = type(toy.model())
    encode = model.encode
    monkeypatch.setattr(model, 'encode', lambda self, *a, **k: calls.append(0) or encode(self, *a, **k))

    def passes(*views):
        calls.clear()
        experiment = toy.experiment(objectives=objectives(*views))
        state = jax.eval_shape(lambda: create_state(experiment, shapes_of_batch(experiment)))
        calls.clear()
        jax.eval_shape(lambda s, b: train_step(s, b, experiment=experiment), state, shapes_of_batch(experiment))
        return len(calls)

    assert passes(Clean()) == passes(Clean(), Clean()) == passes(Without(('text',)), Without(('text',))) == 1
    assert passes(Clean(), Without(('text',)), Clean(), Mismatched(('image',))) == 3


def test_losses_of_views_add_up():
    a, b = Clean(), Without(('text',))
    both = gradients(toy.experiment(model=toy.model(dropout=0.0), objectives=objectives(a, b)))
    each = [gradients(toy.experiment(model=toy.model(dropout=0.0), objectives=objectives(v)))['loss'] for v in (a, b)]
    assert both['loss'] == pytest.approx(sum(map(float, each)), rel=1e-6)
    assert both['loss/o1'] == pytest.approx(float(each[1]), rel=1e-6)
