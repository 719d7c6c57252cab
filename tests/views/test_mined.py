"""Matching pairs and hard negatives: who is drawn, how often, and who never."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.sharding import MeshShape, place_batch
from mmjax.views.absent import Without
from mmjax.views.matching import Matching
from mmjax.views.mined import HardNegatives

KEY = jax.random.key(1)


def pairs(rows=12):
    """Rows 0 and 1 have one text, 2 and 3 one group; 4 has no image, and so no vector of it; 11 fills the batch up."""
    rng = np.random.default_rng(0)
    text = 2 + np.arange(3 * rows).reshape(rows, 3)
    text[1] = text[0]
    vectors = {name: rng.standard_normal((rows, 4)).astype(np.float32) for name in ('image', 'text')}
    vectors['image'][4] = 0
    batch = {
        'image': rng.integers(0, 255, (rows, 2, 2, 3), dtype=np.uint8),
        'image/present': np.arange(rows) != 4,
        'text': text.astype(np.int32),
        'text/causal': np.arange(rows)[:, None] + np.zeros((1, 3), np.int32),
        'thing': np.array([0, 1, 2, 2, *range(4, rows)], np.int32),
        'weight': (np.arange(rows) < rows - 1).astype(np.float32),
    }
    outputs = vectors | {'temperature': np.full((rows, 2), np.log(1.5), np.float32)}
    return jax.tree.map(jnp.asarray, (outputs, batch))


def allowed(group):
    """[i, j]: whether text j may be the wrong one of image i."""
    wrong = ~np.eye(12, dtype=bool)
    wrong[0, 1] = wrong[1, 0] = False
    if group:
        wrong[2, 3] = wrong[3, 2] = False
    wrong[[4, 11]] = wrong[:, [4, 11]] = False
    return wrong


@pytest.mark.parametrize('group', ['', 'thing'])
def test_negatives_are_drawn_by_the_softmax_of_the_scores(group):
    outputs, batch = pairs()
    view, draws = HardNegatives(group=group), 4000
    mined = jax.jit(jax.vmap(lambda key: view.mine(outputs, batch, key)))(jax.random.split(KEY, draws))
    images, texts = (np.asarray(mined.rows[name]).reshape(draws, 12, 3) for name in ('image', 'text'))
    match = np.asarray(mined.batch['match']).reshape(draws, 12, 3)
    present = np.asarray(mined.batch['match/present']).reshape(draws, 12, 3)
    np.testing.assert_array_equal(match, np.broadcast_to([1, 0, 0], match.shape))
    real = ~np.isin(np.arange(12), [4, 11])
    np.testing.assert_array_equal(present, np.broadcast_to(real[:, None], present.shape))
    own = np.arange(12)
    assert (images[..., 0] == own).all() and (texts[..., 0] == own).all()
    assert (images[..., 1] == own).all() and (texts[..., 2] == own).all()
    a, b = (np.asarray(outputs[name], float) for name in ('image', 'text'))
    for drawn, scores, wrong in (
        (texts[..., 1], 1.5 * a @ b.T, allowed(group)),
        (images[..., 2], 1.5 * b @ a.T, allowed(group).T),
    ):
        weights = np.where(wrong, np.exp(scores), 0)
        for row in np.flatnonzero(real):
            found = np.bincount(drawn[:, row], minlength=12) / draws
            expected = weights[row] / weights[row].sum()
            assert not found[~wrong[row]].any()
            np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(draws))


def test_where_all_are_right_there_is_no_negative():
    outputs, batch = pairs()
    batch['text'] = jnp.ones_like(batch['text'])
    present = np.asarray(HardNegatives().mine(outputs, batch, KEY).batch['match/present']).reshape(12, 3)
    assert present[0, 0] and not present[:, 1:].any()


def test_draws_do_not_depend_on_the_mesh():
    outputs, batch = (jax.tree.map(lambda x: np.asarray(x)[np.arange(16) % 12], x) for x in pairs())
    mine = jax.jit(lambda outputs, batch: HardNegatives().mine(outputs, batch, KEY))
    alone = mine(outputs, batch)
    mesh = MeshShape(data=8).build()
    with jax.set_mesh(mesh):
        spread = mine(place_batch(outputs, mesh), place_batch(batch, mesh))
    jax.tree.map(np.testing.assert_array_equal, alone, spread)


def test_some_examples_have_anothers_text_and_say_so():
    _, batch = pairs()
    view = Matching(share=0.5, group='thing')
    seen = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: view(batch, key)))(jax.random.split(KEY, 300)))
    giver = seen['text/causal'][..., 0]  # comes along, and tells whose text it is
    own, before = np.arange(12), jax.tree.map(np.asarray, batch)
    np.testing.assert_array_equal(seen['text'], before['text'][giver])
    np.testing.assert_array_equal(seen['image'], np.broadcast_to(before['image'], seen['image'].shape))
    right = giver == own
    for i, j in ((0, 1), (2, 3)):  # of one text, of one group
        right[:, i] |= giver[:, i] == j
        right[:, j] |= giver[:, j] == i
    np.testing.assert_array_equal(seen['match'], right)
    np.testing.assert_array_equal(seen['match/present'], np.broadcast_to(own != 4, right.shape))
    assert (giver[:, :11] != own[:11]).mean() == pytest.approx(0.5, abs=0.03)
    assert (giver[:, 11] == 11).all() and not (giver[:, :11] == 11).any()


def test_what_cannot_be_mined_is_told():
    outputs, batch = pairs()
    with pytest.raises(UserError, match="no output of the model 'picture'"):
        HardNegatives(outputs=('picture', 'text')).mine(outputs, batch, KEY)
    with pytest.raises(UserError, match="no field of the batch 'thin'; did you mean 'thing'"):
        HardNegatives(group='thin').mine(outputs, batch, KEY)
    with pytest.raises(UserError, match='HardNegatives is mined after HardNegatives'):
        HardNegatives(after=HardNegatives())
    with pytest.raises(UserError, match='mined from what a model gives'):
        HardNegatives(after=Without(('text',)))(batch, KEY)
    with pytest.raises(UserError, match=r'share: 1\.5'):
        Matching(share=1.5)
