"""`caption_emoji` on packed rows: some eight drawings with their names share a row, none seeing another.

    scripts/mmjax train configs/caption_packed.py
    scripts/mmjax train configs/caption_packed.py:large    # a size for a cluster; not run here

A row of `caption_emoji` is a name of at most 48 bytes, and most of it is padding; here a row of 192 holds as many as
fit, with a drawing for each. The languages (all fourteen of them in `large`) are sources of a mixture, in equal shares:
`loss/caption/de` is that of one. The model is that of `caption_emoji`, learns about as many names a step, and is scored
alike, a name to a row.

Measured with one seed: chrF 14.6 in English (16.6 by beam search), 16.3 to 19.7 in the other languages, all below the
name of the nearest drawing (20.9; 22.4 to 23.9), and 17.0 for drawings that it had seen: it has not learned what there
is to learn when its steps end. `scripts/check caption_packed` asks for that floor, and fails.
"""

import dataclasses

from configs import caption_emoji
from configs.caption_emoji import FIELDS, LEARNED, TEXT
from mmjax.data import Data, Feed, Image, InLanguage, Mixture, Packed, RandomShift, Tfds
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.experiment import Experiment

ROW, ITEMS = 192, 10  # places for bytes and for drawings


def learned(languages: tuple[str, ...] = LEARNED, *, side: int = 64) -> Mixture:
    """side: of a drawing, in pixels."""
    shift = RandomShift('image', pixels=round(0.1 * side))
    source = Tfds('emoji', 'train+train_flags', FIELDS)
    rows: dict[str, Feed] = {
        language: Packed(
            Data(source, (Image('image', size=side), InLanguage(LANGUAGES, language), TEXT, shift)),
            lengths={'text': ROW},
            items={'image': ITEMS},
        )
        for language in languages
    }
    return Mixture(rows, dict.fromkeys(rows, 1.0))


def experiment() -> Experiment:
    return dataclasses.replace(caption_emoji.experiment(), name='caption_packed', data=learned(), batch_size=8)


def large() -> Experiment:
    """`caption_emoji` at its largest, 2.5 billion parameters, in packed rows."""
    data = learned(LANGUAGES, side=224)
    return dataclasses.replace(caption_emoji.large(), name='caption_packed_large', data=data, batch_size=512)
