"""Emoji in two styles, where the font of the second one is installed."""

import numpy as np
import pytest

from configs import clip_emoji
from mmjax.data import Data, Image, Tfds, open_data
from mmjax.data.builders import emoji, emoji_styles
from mmjax.errors import UserError


@pytest.fixture(scope='module')
def font():
    try:
        return emoji_styles.open_font()
    except UserError as error:
        pytest.skip(str(error))


def test_a_font_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv('MMJAX_EMOJI_FONT', str(tmp_path / 'none.ttf'))
    with pytest.raises(UserError, match=r'no font .*none.ttf; install'):
        emoji_styles.open_font()
    (tmp_path / 'none.ttf').write_bytes(b'no font')
    with pytest.raises(UserError, match='has no bitmaps of 109 pixels'):
        emoji_styles.open_font()


def test_drawings_are_of_the_font_and_missing_ones_are_left_out(font):
    elephant, ours = emoji_styles.draw('🐘', font=font), emoji.draw('🐘')
    assert elephant.shape == ours.shape and (elephant[0, 0] == 255).all() and (elephant != ours).any()
    assert emoji_styles.draw('🐘🐘', font=font) is None
    assert emoji_styles.draw('\ue000', font=font) is None


def test_pixels_find_what_the_recipe_says(font):
    """Of the unseen kinds: NumPy, by the correlation of the pixels."""
    reader = open_data(
        Data(Tfds('emoji_styles', 'test', {'image': 'image', 'base': 'base', 'style': 'style'}), (Image(size=64),))
    ).reader
    rows = reader.read(range(len(reader)))
    x = np.stack([row['image'] for row in rows]).reshape(len(rows), -1)
    style, base = (np.array([row[name] for row in rows]) for name in ('style', 'base'))
    scores = np.corrcoef(x)[np.ix_(style == 1, style == 0)]
    found = (base[style == 0][scores.argmax(axis=1)] == base[style == 1]).mean()
    assert found == pytest.approx(clip_emoji.styles().evals['test'].references['pixels@1'], abs=5e-4)
