"""Mocks of the standard sets: the schema of the real ones, a handful of random images."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

NAMES = ('n01440764', 'n01443537', 'n01484850', 'n02084071')  # of classes, in ImageNet's way
CAPTIONS = 5


def jpeg(seed: int) -> bytes:
    """A photograph's stand-in, of a size of its own: wide or high, 48 to 80 pixels."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(48, 81, 2)
    file = io.BytesIO()
    blocks = rng.integers(0, 256, (6, 8, 3), np.uint8)
    PIL.Image.fromarray(blocks).resize((int(width), int(height))).save(file, 'jpeg')
    return file.getvalue()


def _image(folder: Path, name: str, seed: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(seed))
    return path


class _Mock(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Splits of numbered examples; `pictures`: where the JPEG files are put that the builder reads."""

    pictures: Path
    splits: dict[str, range]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.schema()))

    def schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def example(self, number: int) -> dict[str, Any]:
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {name: self._generate_examples(numbers) for name, numbers in self.splits.items()}

    def _generate_examples(self, numbers: range) -> Any:
        for number in numbers:
            yield str(number), self.example(number)


class Imagenet(_Mock, skip_registration=True):
    name = 'imagenet2012'
    VERSION = tfds.core.Version('5.1.0')

    def schema(self):
        return {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'label': tfds.features.ClassLabel(names=NAMES),
            'file_name': tfds.features.Text(),
        }

    def example(self, number):
        file_name = f'{NAMES[number % len(NAMES)]}_{number}.JPEG'
        return {
            'image': _image(self.pictures, file_name, number),
            'label': NAMES[number % len(NAMES)],
            'file_name': file_name,
        }


class CocoCaptions(_Mock, skip_registration=True):
    name = 'coco_captions'
    VERSION = tfds.core.Version('1.1.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name='2014', description='of 2014')]  # noqa: RUF012

    def schema(self):
        return {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'image/filename': tfds.features.Text(),
            'image/id': np.int64,
            'objects': tfds.features.Sequence(
                {
                    'id': np.int64,
                    'area': np.int64,
                    'bbox': tfds.features.BBoxFeature(),
                    'label': tfds.features.ClassLabel(num_classes=80),
                    'is_crowd': np.bool_,
                }
            ),
            'captions': tfds.features.Sequence({'text': np.str_, 'id': np.int64}),
        }

    def example(self, number):
        file_name = f'COCO_val2014_{number:012d}.jpg'
        captions = range(CAPTIONS + number % 3)  # some have six or seven, as in the real set
        return {
            'image': _image(self.pictures, file_name, number),
            'image/filename': file_name,
            'image/id': number,
            'objects': [],
            'captions': [{'text': f'Caption {n} of image {number}.', 'id': 100 * number + n} for n in captions],
        }


def prepare(mock: type[_Mock], home: Path, **splits: range) -> None:
    """Writes a mock below `home`, where `Tfds` looks for it. splits: the numbers of the examples of each."""
    builder = mock(data_dir=home, file_format='array_record')
    builder.pictures, builder.splits = home / 'pictures' / mock.name, splits
    builder.download_and_prepare()


def write_vqa(folder: Path, *, images: int = 5) -> None:
    """The official files of VQA v2, with `images` images a part and four questions on each.

    The answer to question 1 of an image is yes or no by the number of the image, to question 2 it is 2; others are
    rare. Of ten people some say it otherwise.
    """
    for offset, part in ((0, 'train2014'), (1000, 'val2014')):
        questions, annotations = [], []
        for image in range(offset, offset + images):
            _image(folder, f'{part}/COCO_{part}_{image:012d}.jpg', image)
            sure = 'yes' if image % 2 else 'no'
            for n, (kind, people) in enumerate(
                (
                    ('yes/no', [sure] * 10),
                    ('yes/no', ['yes'] * 7 + ['no'] * 3),
                    ('number', ['2'] * 3 + ['two'] * 2 + ['3'] * 5),
                    ('other', [f'thing {image}'] * 9 + ['yes']),
                )
            ):
                number = 1000 * image + n
                questions.append({'image_id': image, 'question': f'Is it {n}, really?', 'question_id': number})
                annotations.append(
                    {
                        'question_id': number,
                        'image_id': image,
                        'question_type': 'is it',
                        'answer_type': kind,
                        'multiple_choice_answer': '2' if kind == 'number' else people[0],
                        'answers': [
                            {'answer': answer, 'answer_confidence': 'yes', 'answer_id': i + 1}
                            for i, answer in enumerate(people)
                        ],
                    }
                )
        head = {'info': {'version': '2.0'}, 'license': {}, 'data_type': 'mscoco', 'data_subtype': part}
        asked, answered = {**head, 'questions': questions}, {**head, 'annotations': annotations}
        (folder / f'v2_OpenEnded_mscoco_{part}_questions.json').write_text(json.dumps(asked))
        (folder / f'v2_mscoco_{part}_annotations.json').write_text(json.dumps(answered))
