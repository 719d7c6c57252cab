"""Masked text and images: which are chosen, what becomes of them, what is never touched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.sharding import MeshShape, place_batch
from mmjax.types import PAD_ID, UNTOLD_ID
from mmjax.views.masked import MaskedImage, MaskedText
from mmjax.views.together import Together

KEY = jax.random.key(1)
VOCABULARY = 50


def texts(rows=2000, length=20):
    """Of 0 to 20 ids from 10 on; every fifth is a word that the tokenizer did not know."""
    rng = np.random.default_rng(0)
    ids = rng.integers(10, VOCABULARY, (rows, length))
    ids[:, ::5] = UNTOLD_ID
    lengths = rng.integers(0, length + 1, rows)
    ids[np.arange(length) >= lengths[:, None]] = PAD_ID
    present = np.arange(rows) % 7 != 0
    return {'text': ids.astype(np.int32), 'text/present': present, 'weight': np.ones(rows, np.float32)}


def test_text_is_masked_as_bert_does():
    batch = texts()
    view = MaskedText(VOCABULARY, share=0.15)
    seen = jax.tree.map(np.asarray, jax.jit(view)(batch, KEY))
    ids, shown, masked = batch['text'], seen['text'], seen['text/masked']
    np.testing.assert_array_equal(seen['text/target'], ids)
    np.testing.assert_array_equal(shown[~masked], ids[~masked])
    candidates = (ids > UNTOLD_ID) & batch['text/present'][:, None]
    assert not masked[~candidates].any()
    there = candidates.sum(axis=1)
    expected = np.where(there == 0, 0, np.maximum(np.round(0.15 * there), 1))
    np.testing.assert_array_equal(masked.sum(axis=1), expected)
    became, was = shown[masked], ids[masked]
    untold, kept = became == UNTOLD_ID, became == was
    spread = 3 * np.sqrt(0.8 * 0.2 / len(was))
    assert untold.mean() == pytest.approx(0.8, abs=spread) and kept.mean() == pytest.approx(0.102, abs=spread)
    drawn = became[~untold & ~kept]
    assert drawn.min() == UNTOLD_ID + 1 and drawn.max() == VOCABULARY - 1  # all of the vocabulary, no reserved id
    assert PAD_ID not in became
    places = [masked[there == 16, place].mean() for place in (1, 6, 11, 16)]  # of 16 known words in a full row
    np.testing.assert_allclose(places, 2 / 16, atol=0.08)  # the first is no likelier than the last


def test_an_image_is_masked_in_whole_patches():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (64, 16, 8, 3), dtype=np.uint8)
    batch = {'image': image, 'image/present': np.arange(64) != 3, 'weight': np.ones(64, np.float32)}
    seen = jax.tree.map(np.asarray, jax.jit(MaskedImage(patch=4, share=0.6, fill=200))(batch, KEY))
    np.testing.assert_array_equal(seen['image/target'], image)
    for row in range(64):
        assert seen['image/masked'][row].sum() == (0 if row == 3 else 5)  # of 8
        for number, masked in enumerate(seen['image/masked'][row]):
            y, x = 4 * (number // 2), 4 * (number % 2)
            patch = seen['image'][row, y : y + 4, x : x + 4]
            assert (patch == 200).all() if masked else (patch == image[row, y : y + 4, x : x + 4]).all()
    assert len({tuple(row) for row in seen['image/masked']}) > 20
    floats = {
        'image': np.ones((2, 3, 4, 4, 1), np.float32),
        'image/present': np.ones((2, 3), bool),
    }  # packed: three in a row
    packed = jax.jit(MaskedImage(patch=2, share=0.5))(floats, KEY)
    assert packed['image/masked'].shape == (2, 3, 4) and set(np.unique(packed['image'])) == {0.0, 1.0}
    assert (np.asarray(packed['image/masked']).sum(-1) == 2).all()


def test_draws_are_those_of_the_whole_batch_on_any_mesh():
    batch, view = texts(rows=16), Together((MaskedText(VOCABULARY), MaskedText(VOCABULARY, share=0.5)))
    alone = jax.jit(view)(batch, KEY)
    mesh = MeshShape(data=4, fsdp=2).build()
    with jax.set_mesh(mesh):
        spread = jax.jit(view)(place_batch(batch, mesh), KEY)
    for name, x in alone.items():
        np.testing.assert_array_equal(x, spread[name])
    again = jax.jit(view)(batch, jax.random.key(2))
    assert (np.asarray(again['text/masked']) != np.asarray(alone['text/masked'])).any()


def test_what_cannot_be_masked_is_told():
    with pytest.raises(UserError, match=r"MaskedText of 'text': share 0\.0"):
        MaskedText(VOCABULARY, share=0.0)
    with pytest.raises(UserError, match='2 ids leave no word'):
        MaskedText(2)
    with pytest.raises(UserError, match=r"'image' is float32 \[2, 4\]; it takes ids"):
        MaskedText(VOCABULARY, 'image')({'image': jnp.ones((2, 4))}, KEY)
    with pytest.raises(UserError, match=r'patches of 3'):
        MaskedImage(patch=3)({'image': jnp.ones((2, 4, 4, 3))}, KEY)
    with pytest.raises(UserError, match="no field of the batch 'imge'; did you mean 'image'"):
        MaskedImage('imge')({'image': jnp.ones((2, 4, 4, 3))}, KEY)
