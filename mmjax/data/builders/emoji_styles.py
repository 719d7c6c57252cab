"""Emoji twice: as OpenMoji draws them and as Noto does, for retrieval across styles.

The rows, names and splits are those of `emoji` without its flags; each stands there once in either style. Noto's
drawings come from the bitmap font NotoColorEmoji.ttf (SIL Open Font License 1.1), which no package of ours brings:
Debian and Ubuntu have it as `fonts-noto-color-emoji`; `MMJAX_EMOJI_FONT` names it elsewhere. Emoji that the installed
version of the font lacks are left out.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from mmjax.data.builders import emoji
from mmjax.errors import UserError

STYLES = ('openmoji', 'noto')
FONT = Path('/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf')
BITMAP = 109  # the one size that the font has, in pixels
CANVAS = (136, 128)  # of a glyph


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Splits: train, validation, test, as in `emoji`; a model of it saw the openmoji rows of train alone."""

    name = 'emoji_styles'
    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(emoji.SIDE, emoji.SIDE, 3), encoding_format='png'),
                'names': tfds.features.Sequence(tfds.features.Text()),
                'base': np.int32,
                'style': tfds.features.ClassLabel(names=STYLES),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description='Emoji as OpenMoji and as Noto draw them.',
            homepage='https://github.com/googlefonts/noto-emoji',
            features=features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        font = open_font()
        return {name: self._generate_examples(tenths, font) for name, tenths in emoji.TENTHS.items()}

    def _generate_examples(
        self, tenths: range, font: PIL.ImageFont.FreeTypeFont
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        rows = emoji.entries()
        places = emoji.place_of_kins(rows)
        for number, row in enumerate(rows):
            other = None if row.flag or places[row.kin] not in tenths else draw(row.emoji, font=font)
            if other is not None:
                for style, image in enumerate((emoji.draw(row.emoji), other)):
                    told = {'names': list(row.names), 'base': row.base, 'style': STYLES[style]}
                    yield 2 * number + style, {'image': emoji.png(image), **told}


def open_font() -> PIL.ImageFont.FreeTypeFont:
    """Noto's font. Raises UserError where it is not found, or Pillow cannot lay out joined emoji."""
    path = Path(os.environ.get('MMJAX_EMOJI_FONT') or FONT)
    if not path.exists():
        raise UserError(
            f"emoji_styles: no font {path}; install Debian's fonts-noto-color-emoji, or name NotoColorEmoji.ttf by "
            'MMJAX_EMOJI_FONT'
        )
    if not PIL.features.check('raqm'):
        raise UserError('emoji_styles: this Pillow was built without Raqm, which joins emoji; install its wheel')
    try:
        return PIL.ImageFont.truetype(str(path), BITMAP, layout_engine=PIL.ImageFont.Layout.RAQM)
    except OSError as error:
        raise UserError(
            f'emoji_styles: {path} has no bitmaps of {BITMAP} pixels ({error}); take the CBDT font'
        ) from error


def draw(text: str, *, font: PIL.ImageFont.FreeTypeFont) -> UInt8[np.ndarray, '64 64 3'] | None:
    """Noto's drawing on white, 64x64; None for an emoji that the font lacks or draws as several."""
    left, top, right, bottom = font.getbbox(text)
    if font.getlength(text) != font.getlength('\N{GRINNING FACE}') or right == left or bottom == top:
        return None
    canvas = PIL.Image.new('RGB', CANVAS, 'white')
    PIL.ImageDraw.Draw(canvas).text((-left, -top), text, font=font, embedded_color=True)
    return np.asarray(canvas.resize((emoji.SIDE, emoji.SIDE), PIL.Image.Resampling.LANCZOS))
