"""`caption_emoji` on packed rows: some nine drawings with their names share a row, none seeing another.

    scripts/train_tokenizer configs/caption_packed.py    # its byte-pair tokens, those of `caption_emoji`
    scripts/mmjax train configs/caption_packed.py
    scripts/mmjax train configs/caption_packed.py:large    # a size for a cluster; not run here

A row of `caption_emoji` is a prompt and a name of 20 tokens at most, much of it padding; here a row of 96 holds as
many as fit, with a drawing for each. The languages (all fourteen of them in `large`) are sources of a mixture, in
equal shares: `loss/caption/de` is that of one. The stages and the model are those of `caption_emoji`; it learns from
about as many names, in fewer steps, and is scored alike, a name to a row.

Measured with one seed: chrF 15.3 in English (12.5 to 18.1; 16.5 by beam search), where another's drawing gives 8.6
(7.7 to 9.6) and the name of the nearest drawing 20.9; German 16.6, Spanish 20.6, French 17.9 (nearest 23.8, 23.9,
22.4); of drawings that it had seen 27.4. `scripts/check caption_packed` asks that the intervals of right and wrong
drawings are apart.
"""

import dataclasses

from configs import caption_emoji
from configs.caption_emoji import FIELDS, LEARNED, TEXT
from mmjax.data import Data, Feed, Image, InLanguage, Mixture, Packed, RandomShift, Tfds
from mmjax.data.builders.emoji import LANGUAGES
from mmjax.experiment import Experiment

ROW, ITEMS = 96, 12  # places for tokens and for drawings


def learned(languages: tuple[str, ...] = LEARNED, *, side: int = 64, cache: bool = True) -> Mixture:
    """side: of a drawing, in pixels. cache: see `Data`; each language has one of its own."""
    shift = RandomShift('image', pixels=round(0.1 * side))
    source = Tfds('emoji', 'train+train_flags', FIELDS)
    rows: dict[str, Feed] = {
        language: Packed(
            Data(source, (Image('image', size=side), InLanguage(LANGUAGES, language), TEXT, shift), cache=cache),
            lengths={'text': ROW},
            items={'image': ITEMS},
        )
        for language in languages
    }
    return Mixture(rows, dict.fromkeys(rows, 1.0))


def experiment() -> tuple[Experiment, ...]:
    towers, caption = caption_emoji.experiment()
    return towers, dataclasses.replace(caption, data=learned(), steps=2000, batch_size=8)


def large() -> Experiment:
    """`caption_emoji` at its largest, 2.5 billion parameters, in packed rows."""
    data = learned(LANGUAGES, side=224, cache=False)
    return dataclasses.replace(caption_emoji.large(), name='caption_packed_large', data=data, batch_size=512)
