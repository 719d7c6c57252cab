"""easy-VQA: one coloured shape per image, questions in a small English, 13 answers.

Source: V. Zhou, 2019, https://github.com/vzhou842/easy-VQA (MIT), as installed by the package `easy-vqa`:
4,000 + 1,000 RGB images of 64x64 pixels, 38,575 + 9,673 questions.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.errors import UserError

SHAPES = ('circle', 'rectangle', 'triangle')
PALETTE = {
    'black': (0, 0, 0),
    'blue': (0, 0, 255),
    'brown': (165, 42, 42),
    'gray': (128, 128, 128),
    'green': (0, 255, 0),
    'red': (255, 0, 0),
    'teal': (0, 128, 128),
    'yellow': (255, 255, 0),
}
PACK = np.array([1 << 16, 1 << 8, 1], np.int32)  # an RGB triple as one number
COLORS = tuple(PALETTE)
ANSWERS = ('no', 'yes', *SHAPES, *COLORS)
KINDS = ('yes/no', 'open')

HELD_OUT = (
    ('circle', 'blue'),
    ('circle', 'yellow'),
    ('rectangle', 'gray'),
    ('rectangle', 'red'),
    ('triangle', 'green'),
    ('triangle', 'teal'),
)
"""The pairs that 'heldout' never trains on. Every shape and every colour is still seen, in other company."""

TEST_IDS_FROM = 4000
"""`image_id` of the first image of the official test set, whose own numbering starts at 0 again."""


class Row(NamedTuple):
    """One question about one image, with what is known of the image."""

    part: str  # official set that it comes from: 'train' or 'test'
    question: str
    answer: str
    image: int  # number of the image within the part
    shape: str
    color: str


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """easy-VQA in two cuts.

    `official`: train and validation are the official train set cut *by image*, 9 to 1; test is the official test set.
    `heldout`: six of the 24 shape x colour pairs appear in `test` alone (images of both official sets); train and
    validation hold the other 18, and `test_seen` the official test images of those 18.

    And the images of `official` by themselves, each once, in the same splits:

    `captions`: with a caption of our own making, "a red circle", from what `look` reads off the pixels. Not part of the
    data set; it is there to pretrain on, without questions or answers. The image tells every word of it: a masked one
    can be guessed in 100 % of cases; without the image "a" in 100 %, a colour in 1 of 8, a shape in 1 of 3.
    """

    name = 'easy_vqa'
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name='official', description='the official split, validation cut by image from train'),
        tfds.core.BuilderConfig(name='heldout', description='six shape x colour pairs are seen in the test alone'),
        tfds.core.BuilderConfig(name='captions', description='each image once, with a caption made for it'),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        asked = {
            'question': tfds.features.Text(),
            'answer': tfds.features.ClassLabel(names=ANSWERS),
            'kind': tfds.features.ClassLabel(names=KINDS),
        }
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(64, 64, 3), encoding_format='png'),
                **({'caption': tfds.features.Text()} if self._captions else asked),
                'image_id': np.int32,
                'shape': tfds.features.ClassLabel(names=SHAPES),
                'color': tfds.features.ClassLabel(names=COLORS),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description='Visual question answering about one coloured shape.',
            homepage='https://github.com/vzhou842/easy-VQA',
            features=features,
            disable_shuffling=True,  # the loader shuffles; rows in the order of the files can be looked up there
        )

    @property
    def _captions(self) -> bool:
        assert self.builder_config is not None
        return self.builder_config.name == 'captions'

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download: the files come with the package
        root = package_data()
        rows = [*read_rows(root, 'train'), *read_rows(root, 'test')]
        assert self.builder_config is not None
        parts = split(rows, self.builder_config.name)
        return {name: self._generate_examples(root, part) for name, part in parts.items()}

    def _generate_examples(self, root: Path, rows: list[Row]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in enumerate(rows):
            kind = KINDS[0] if row.answer in ('yes', 'no') else KINDS[1]
            asked = {'question': row.question, 'answer': row.answer, 'kind': kind}
            yield (
                number,
                {
                    'image': image_path(root, row.part, row.image),
                    **({'caption': caption(row)} if self._captions else asked),
                    'image_id': row.image + (TEST_IDS_FROM if row.part == 'test' else 0),
                    'shape': row.shape,
                    'color': row.color,
                },
            )


def package_data() -> Path:
    """The `data` folder of the installed package `easy-vqa`. Raises UserError where it is not installed."""
    spec = importlib.util.find_spec('easy_vqa')
    if spec is None or spec.origin is None:
        raise UserError('easy_vqa: its files come with the package easy-vqa, which is missing: pip install easy-vqa')
    return Path(spec.origin).parent / 'data'


def image_path(root: Path, part: str, number: int) -> Path:
    return root / part / 'images' / f'{number}.png'


def read_rows(root: Path, part: str) -> list[Row]:
    """The questions of an official set ('train' or 'test') in the order of its file."""
    questions = json.loads((root / part / 'questions.json').read_text())
    looks = {number: look(image_path(root, part, number)) for number in sorted({row[2] for row in questions})}
    return [Row(part, question, answer, number, *looks[number]) for question, answer, number in questions]


def look(path: Path) -> tuple[str, str]:
    """Shape and colour of the one thing in an image, from its pixels: the questions leave one image in eight open.

    The colour is the palette entry that most pixels have exactly. A rectangle fills its bounding box; of the others
    a circle looks the same upside down, a triangle does not.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'), np.int32) @ PACK
    masks = {name: pixels == np.dot(value, PACK) for name, value in PALETTE.items()}
    color = max(masks, key=lambda name: int(masks[name].sum()))
    rows, columns = np.nonzero(masks[color])
    box = masks[color][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    upturned = (box != box[::-1]).mean()  # at most 0.18 for a circle, at least 0.46 for a triangle
    shape = 'rectangle' if box.mean() > 0.9 else 'circle' if upturned < 0.3 else 'triangle'
    return shape, color


def caption(row: Row) -> str:
    """What the image shows."""
    return f'a {row.color} {row.shape}'


def in_validation(number: int) -> bool:
    """Whether an image of the official train set validates: one in ten, by a hash of its number."""
    return int.from_bytes(hashlib.sha256(f'easy_vqa/{number}'.encode()).digest()[:8], 'big') % 10 == 0


def split(rows: list[Row], config: str) -> dict[str, list[Row]]:
    """Cuts the rows of both official sets into the splits of a config: 'official', 'heldout', or 'captions', which are
    those of 'official' with the first row of each image.
    """
    learn = [row for row in rows if row.part == 'train']
    test = [row for row in rows if row.part == 'test']
    if config == 'heldout':
        unseen = [row for row in rows if (row.shape, row.color) in HELD_OUT]
        learn = [row for row in learn if (row.shape, row.color) not in HELD_OUT]
        tests = {'test': unseen, 'test_seen': [row for row in test if (row.shape, row.color) not in HELD_OUT]}
    else:
        tests = {'test': test}
    parts = {
        'train': [row for row in learn if not in_validation(row.image)],
        'validation': [row for row in learn if in_validation(row.image)],
        **tests,
    }
    if config == 'captions':
        return {name: list({row.image: row for row in reversed(part)}.values())[::-1] for name, part in parts.items()}
    return parts
