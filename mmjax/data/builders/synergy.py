"""An image and a text whose information about a label is known exactly: all redundant, unique, synergistic, or mixed.

Generated here. Each modality shows four bits. The image has 8x8 grey pixels: each quadrant of 4x4 is dark (0) or light
(1). The text has five words such as 'the tiny red cat sleeps': each bit chooses a meaning, and a coin one of its two
words. Pixels and words vary, but each bit can be read without error. The label y is a function of these bits; how
many of them bear on it, and how, is a `Parts`. Bits that do not are fair coins, independent of everything else.

In `information`'s terms (bits; a is the image, b the text), by the functions below:

    config       I(a;y)  I(b;y)  I(ab;y)  co-information   best accuracy from neither, a, b, both
    xor             0       0       1          -1              1/2    1/2   1/2   1
    redundancy      1       1       1           1              1/2     1     1    1
    unique_a        1       0       1           0              1/2     1    1/2   1
    unique_b        0       1       1           0              1/2    1/2    1    1
    mixed           2       2       4           0              1/16   1/4   1/4   1

Co-information is redundancy minus synergy: in `mixed`, with one bit of each, they cancel.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8

from mmjax.errors import UserError, nearest

BITS = 4  # of each modality
VALUES = 1 << BITS  # a modality's bits as one number, the first the highest: what the tables and `a_bits` count

MEANINGS = (
    (('small', 'tiny'), ('big', 'large')),
    (('red', 'crimson'), ('blue', 'navy')),
    (('cat', 'kitten'), ('dog', 'puppy')),
    (('sleeps', 'rests'), ('runs', 'jumps')),
)
"""The words for each bit of the text: for 0, and for 1."""

DARK, LIGHT, SPREAD = 64, 192, 63  # a pixel is one of the two, give or take the spread: 1..127 or 129..255
QUADRANT = 4  # pixels along its side; bits go top left, top right, bottom left, bottom right

SIZES = {'train': 10_000, 'validation': 2_000, 'test': 4_000}


class Parts(NamedTuple):
    """How many bits of the label are of each kind. They are also its partial information decomposition (Liang 2023).

    redundant: the same in image and text. unique_a, unique_b: in one alone. synergy: the exclusive or of a bit in
    each. A modality's bits come in this order, what is left over being distractors; so do those of the label.
    """

    redundant: int = 0
    unique_a: int = 0
    unique_b: int = 0
    synergy: int = 0


CONFIGS = {
    'xor': Parts(synergy=1),
    'redundancy': Parts(redundant=1),
    'unique_a': Parts(unique_a=1),
    'unique_b': Parts(unique_b=1),
    'mixed': Parts(redundant=1, unique_a=1, unique_b=1, synergy=1),
}


class Information(NamedTuple):
    """Of a joint distribution of a, b and y, in bits. `co` is the co-information I(a;y) + I(b;y) - I(ab;y)."""

    a: float
    b: float
    ab: float
    co: float


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One config for each of CONFIGS. Splits: train 10,000 rows, validation 2,000, test 4,000, drawn independently."""

    name = 'synergy'
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f'bits of the label: {parts}') for name, parts in CONFIGS.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        assert self.builder_config is not None
        features = tfds.features.FeaturesDict(
            {
                'image': tfds.features.Tensor(shape=(2 * QUADRANT, 2 * QUADRANT, 1), dtype=np.uint8),
                'text': tfds.features.Text(),
                'y': tfds.features.ClassLabel(names=labels(self.builder_config.name)),
                'a_bits': np.int32,  # for reports: a model that is given these need neither look nor read
                'b_bits': np.int32,
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description='An image and a text whose information about a label is known exactly.',
            features=features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing to download
        assert self.builder_config is not None
        config = self.builder_config.name
        return {name: self._generate_examples(config, name, size) for name, size in SIZES.items()}

    def _generate_examples(self, config: str, part: str, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        # The seed is the name, so that another config or split changes none of the others.
        rng = np.random.default_rng(np.random.SeedSequence(list(f'synergy/{config}/{part}'.encode())))
        table = joint(config)
        cells = np.unravel_index(rng.choice(table.size, size, p=table.ravel()), table.shape)
        for number, (a, b, y) in enumerate(np.stack(cells, axis=-1).tolist()):
            yield (
                number,
                {
                    'image': draw(a, rng),
                    'text': write(b, rng),
                    'y': y,
                    'a_bits': a,
                    'b_bits': b,
                },
            )


def parts_of(config: str) -> Parts:
    """Raises UserError for a config that is not there."""
    if config not in CONFIGS:
        raise UserError(
            f"data set 'synergy' has no config '{config}'; it has {', '.join(CONFIGS)}{nearest(config, CONFIGS)}"
        )
    return CONFIGS[config]


def labels(config: str) -> tuple[str, ...]:
    """Names of the classes: the bits of y, such as '0' and '1', or '0000' to '1111'."""
    width = sum(parts_of(config))
    return tuple(format(y, f'0{width}b') for y in range(1 << width))


def joint(config: str) -> Float[np.ndarray, 'a b y']:
    """The exact probability of each value of the image's bits (16), of the text's (16) and of the label (2 or 16)."""
    redundant, unique_a, unique_b, synergy = parts_of(config)
    table = np.zeros((VALUES, VALUES, len(labels(config))))
    for a in range(VALUES):
        for b in range(VALUES):
            in_a, in_b = bits(a), bits(b)
            if in_a[:redundant] != in_b[:redundant]:
                continue  # what is said twice agrees
            pairs = zip(in_a[redundant + unique_a :][:synergy], in_b[redundant + unique_b :][:synergy], strict=True)
            y = [*in_a[: redundant + unique_a], *in_b[redundant:][:unique_b], *(left ^ right for left, right in pairs)]
            table[a, b, int(''.join(map(str, y)), 2)] = 1
    return table / table.sum()


def bits(value: int) -> list[int]:
    """The bits of a modality, first to last: bits(8) == [1, 0, 0, 0]."""
    return [value >> place & 1 for place in reversed(range(BITS))]


def information(table: Float[np.ndarray, 'a b y']) -> Information:
    """The mutual informations of a table of probabilities, in bits. Raises UserError where they are not a distribution.

    Co-information after McGill 1954: what a and b say alike (redundancy) minus what only both together say (synergy).
    """
    if (table < 0).any() or abs(table.sum() - 1) > 1e-9:
        raise UserError(f'information: probabilities from {table.min():g} on that add up to {table.sum():g}, not to 1')
    of_y = _entropy(table.sum((0, 1)))
    a = _entropy(table.sum((1, 2))) + of_y - _entropy(table.sum(1))
    b = _entropy(table.sum((0, 2))) + of_y - _entropy(table.sum(0))
    ab = _entropy(table.sum(2)) + of_y - _entropy(table)
    return Information(a, b, ab, a + b - ab)


def _entropy(probabilities: Float[np.ndarray, '...']) -> float:
    some = probabilities[probabilities > 0]
    return float(-(some * np.log2(some)).sum())


def draw(a: int, rng: np.random.Generator) -> UInt8[np.ndarray, '8 8 1']:
    """An image of these bits: no pixel of a light quadrant is as dark as any of a dark one."""
    level = np.where(np.array(bits(a)).reshape(2, 2), LIGHT, DARK).repeat(QUADRANT, 0).repeat(QUADRANT, 1)
    noise = rng.integers(-SPREAD, SPREAD, level.shape, endpoint=True)
    return (level + noise)[..., None].astype(np.uint8)


def write(b: int, rng: np.random.Generator) -> str:
    """A text of these bits."""
    coins = rng.integers(2, size=BITS).tolist()
    return ' '.join(['the', *(words[bit][coin] for words, bit, coin in zip(MEANINGS, bits(b), coins, strict=True))])
