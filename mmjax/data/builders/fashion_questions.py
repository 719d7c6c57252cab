"""Fashion-MNIST with a question about each image, in a text that does not give the label away.

Images: H. Xiao, K. Rasul, R. Vollgraf, 2017, https://github.com/zalandoresearch/fashion-mnist (MIT): 60,000 + 10,000
grey images of 28x28 pixels, ten kinds of garment. They are read from the four `*-ubyte.gz` files in
`$MMJAX_FASHION_MNIST`, by default where Debian's package dataset-fashion-mnist puts them.

The questions are ours: yes/no, about a group of garments. Which question an image gets, and hence its answer, is
drawn so that half of the answers are yes for each question and for each kind of garment. Whoever reads only the
question, or sees only the image, is then at chance; both together decide every answer.
"""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, Float, Int, UInt8

from mmjax.errors import UserError

ITEMS = ('t-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')
ANSWERS = ('no', 'yes')


class Group(NamedTuple):
    """One question in several wordings, and the items for which the answer is yes."""

    phrases: tuple[str, ...]
    yes: set[str]


GROUPS = (
    Group(
        ('is it worn on the feet?', 'does it go on a foot?', 'do you walk on it?'),
        {'sandal', 'sneaker', 'ankle boot'},
    ),
    Group(
        ('does it cover the chest?', 'is it worn on the upper body?', 'does it go over the shoulders?'),
        {'t-shirt', 'pullover', 'dress', 'coat', 'shirt'},
    ),
    Group(
        ('does it cover the thighs?', 'does it hang down over the legs?'),
        {'trouser', 'dress'},
    ),
    Group(
        ('does it have long sleeves?', 'does it cover the arms?', 'are there sleeves down to the wrists?'),
        {'pullover', 'coat', 'shirt'},
    ),
    Group(
        ('is it carried in the hand?', 'can you put your shopping into it?'),
        {'bag'},
    ),
    Group(
        ('is it made for a hot day?', 'would you wear it in summer?'),
        {'t-shirt', 'dress', 'sandal'},
    ),
    Group(
        ('is it made for a cold day?', 'would you wear it in winter?', 'does it keep you warm?'),
        {'pullover', 'coat', 'ankle boot'},
    ),
    Group(
        ('would you hang it in a wardrobe?', 'would you fold it into a drawer?'),
        {'t-shirt', 'trouser', 'pullover', 'dress', 'coat', 'shirt'},
    ),
)
"""The answers are a table by kind of garment, not by the single image."""

VALIDATION = 12  # one in so many of the official train set, at its end, validates: 5,000 of 60,000

PIXELS, LABELS = 0x803, 0x801  # what an idx file starts with: unsigned bytes in three dimensions, or in one


class Asked(NamedTuple):
    """A question about one image, and its answer."""

    question: str
    answer: str


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Splits: train (the first 55,000 of the official train set), validation (its last 5,000), test (10,000)."""

    name = 'fashion_questions'
    VERSION = tfds.core.Version('1.0.0')

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8),
                'question': tfds.features.Text(),
                'answer': tfds.features.ClassLabel(names=ANSWERS),
                'item': tfds.features.ClassLabel(names=ITEMS),  # for reports: a model that is given it need not look
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description='Yes/no questions about garments, balanced by question and by garment.',
            homepage='https://github.com/zalandoresearch/fashion-mnist',
            features=features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download
        learn, test = read_images('train'), read_images('t10k')
        cut = len(learn[0]) - len(learn[0]) // VALIDATION
        return {
            'train': self._generate_examples(learn[0][:cut], learn[1][:cut]),
            'validation': self._generate_examples(learn[0][cut:], learn[1][cut:]),
            'test': self._generate_examples(*test),
        }

    def _generate_examples(
        self, images: UInt8[np.ndarray, 'n 28 28'], items: UInt8[np.ndarray, 'n']
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, item, asked) in enumerate(zip(images, items, ask(items), strict=True)):
            yield (
                number,
                {
                    'image': image[..., None],
                    'question': asked.question,
                    'answer': asked.answer,
                    'item': ITEMS[item],
                },
            )


def read_images(part: str) -> tuple[UInt8[np.ndarray, 'n 28 28'], UInt8[np.ndarray, 'n']]:
    """Images and item numbers of an official set, 'train' or 't10k'. Raises UserError where the files are not there."""
    root = Path(os.environ.get('MMJAX_FASHION_MNIST') or '/usr/share/datasets/fashion-mnist')
    images = read_idx(root / f'{part}-images-idx3-ubyte.gz', PIXELS)
    items = read_idx(root / f'{part}-labels-idx1-ubyte.gz', LABELS)
    if images.shape[1:] != (28, 28) or len(images) != len(items):
        raise UserError(f'fashion_questions: {root} has {list(images.shape)} pixels for {len(items)} {part} labels')
    return images, items


def read_idx(path: Path, magic: int) -> np.ndarray:
    """An idx file: the magic number, the size of each dimension (big-endian int32), the bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f'fashion_questions: no {path}; apt-get install dataset-fashion-mnist, '
            'or set MMJAX_FASHION_MNIST to a directory with the four *-ubyte.gz files'
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'fashion_questions: {path} cannot be read ({error}); fetch it again') from error
    head = 4 * (1 + (magic & 0xFF))  # the low byte of the magic number counts the dimensions
    found, *shape = np.frombuffer(data[:head].ljust(head, b'\0'), '>i4').tolist()
    if found != magic or len(data) - head != math.prod(shape):
        raise UserError(f'fashion_questions: {path} is not the idx file that its name says; fetch it again')
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def membership() -> Bool[np.ndarray, 'items groups']:
    """Whether the answer is yes, for each item and each group of questions."""
    return np.array([[item in group.yes for group in GROUPS] for item in ITEMS])


def balanced(counts: Int[np.ndarray, 'items']) -> Float[np.ndarray, 'items groups']:
    """How many of each item's `counts` images get each group's question: half yes by item, and half yes by group.

    Iterative proportional fitting from the uniform table: the one closest to it that keeps both conditions.
    """
    yes = membership()
    table = np.ones(yes.shape)
    for _ in range(1000):
        for answer in (yes, ~yes):
            per_item = (table * answer).sum(1, keepdims=True)
            table *= np.where(answer, counts[:, None] / 2 / per_item, 1)
        per_group = np.stack([(table * answer).sum(0) for answer in (~yes, yes)])
        target = np.sqrt(per_group.prod(0))
        table *= np.where(yes, target / per_group[1], target / per_group[0])
    return table


def ask(items: UInt8[np.ndarray, 'n']) -> list[Asked]:
    """The question of each image of a split, given their items: the same for the same split, whatever the pixels."""
    counts = np.bincount(items, minlength=len(ITEMS))
    table, yes = balanced(np.maximum(counts, 1)), membership()
    asked: list[Asked | None] = [None] * len(items)
    for item in range(len(ITEMS)):
        places = sorted(np.flatnonzero(items == item).tolist(), key=_scramble)
        options = [
            (Asked(phrase, ANSWERS[int(yes[item, number])]), table[item, number] / len(group.phrases))
            for number, group in enumerate(GROUPS)
            for phrase in group.phrases
        ]
        ends = np.cumsum([share for _, share in options])
        # One image at the middle of each of `counts` equal stretches: every question gets its share, to one image.
        middles = (np.arange(counts[item]) + 0.5) * ends[-1] / max(1, counts[item])
        for place, at in zip(places, np.searchsorted(ends, middles), strict=True):
            asked[place] = options[at][0]
    return [question for question in asked if question is not None]


def _scramble(place: int) -> bytes:
    return hashlib.sha256(f'fashion_questions/{place}'.encode()).digest()
