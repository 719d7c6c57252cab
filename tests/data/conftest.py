"""A small data set of every kind of feature, prepared once, and a source that is a list."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from mmjax.data import Example, Reader, Source
from tests.object_store import bucket

__all__ = ['bucket']

TRAIN, TEST = 23, 7


def png(seed: int, *, size: tuple[int, int] = (10, 8)) -> bytes:
    """An RGB PNG of noise, `size` being (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, 'png')
    return file.getvalue()


def prepare_tiny(home: Path, file_format: str = 'array_record') -> Path:
    """Prepares the data set 'tiny' (train in two files, test in one) under `home`; returns its directory."""
    import tensorflow_datasets as tfds

    pictures = home / 'pictures'
    pictures.mkdir(parents=True)

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = 'tiny'
        VERSION = tfds.core.Version('1.2.0')

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(8, 10, 3)),
                    'question': tfds.features.Text(),
                    'answer': tfds.features.ClassLabel(names=('no', 'yes', 'perhaps')),
                    'number': np.int32,
                    'vector': tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    'captions': tfds.features.Sequence({'text': tfds.features.Text(), 'id': np.int64}),
                    'thumbnail': tfds.features.Image(shape=(None, None, 3)),
                    'image/id': np.int64,  # COCO's way of naming things, and of declaring texts
                    'image/again': tfds.features.Image(shape=(8, 10, 3)),
                    'notes': tfds.features.Sequence({'text': np.str_}),
                    'title': np.str_,
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {'train': self._generate_examples(0, TRAIN), 'test': self._generate_examples(100, TEST)}

        def _generate_examples(self, first, count):
            for number in range(first, first + count):
                path = pictures / f'{number // 2}.png'  # two questions for each image
                path.write_bytes(png(number // 2))
                yield number - first, tiny_row(number) | {'image': path, 'thumbnail': path, 'image/again': path}

    builder = Tiny(data_dir=home, file_format=file_format)
    config = tfds.download.DownloadConfig(num_shards=2)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def tiny_row(number: int) -> Example:
    """What the data set 'tiny' holds besides the image; its test split starts at 100."""
    return {
        'question': f'is it number {number}? «ñ»',
        'answer': ('no', 'yes', 'perhaps')[number % 3],
        'number': number,
        'vector': np.arange(4, dtype=np.float32) + number,
        'captions': [{'text': f'caption {i}', 'id': i} for i in range(number % 4)],
        'image/id': 7 * number,
        'notes': [{'text': f'«note» {i}'} for i in range(number % 3)],
        'title': f'the {number}th «title»',
    }


@pytest.fixture(scope='session')
def tiny_home(tmp_path_factory) -> Path:
    """A data directory that holds the data set 'tiny'. Not to be written to."""
    home = tmp_path_factory.mktemp('data')
    prepare_tiny(home)
    return home


@pytest.fixture
def tiny(tiny_home, monkeypatch):
    """The data set 'tiny' is where the environment says."""
    monkeypatch.setenv('MMJAX_DATA', str(tiny_home))
    return SimpleNamespace(
        home=tiny_home, directory=tiny_home / 'tiny/1.2.0', train=TRAIN, test=TEST, row=tiny_row, png=png
    )


@dataclass(frozen=True)
class Numbered(Source):
    """`length` examples that are computed from their row, and a count of how often each was read."""

    length: int
    name: str = ''

    def open(self) -> Reader:
        return NumberedReader(self.length)


class NumberedReader(Reader):
    def __init__(self, length: int):
        self.labels = {'label': ('even', 'odd')}
        self.fingerprint = f'{length}'
        self.length = length
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.length

    def read(self, rows: Sequence[int]) -> list[Example]:
        self.reads.extend(rows)
        return [
            {
                'image': np.full((6, 5, 3), row % 4, np.uint8) + np.arange(5, dtype=np.uint8)[:, None],
                'image/present': np.bool_(True),
                'text': f'row {row % 3}',
                'label': np.int32(row % 2),
                'row': row,
            }
            for row in rows
        ]


@pytest.fixture(scope='session')
def numbered() -> type[Numbered]:
    return Numbered
