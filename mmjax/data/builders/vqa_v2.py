"""VQA v2: photographs of COCO, questions about them, and what ten people answered to each.

Goyal et al. 2017, "Making the V in VQA matter"; annotations CC BY 4.0, images of COCO 2014. 443,757 questions on 82,783
images to train with, 214,354 on 40,504 to validate with; the answers of the test set are not public. Fetch and unpack
these from https://visualqa.org/download.html and https://cocodataset.org into a directory that `$MMJAX_VQA_V2` names
(without it: `downloads/manual/vqa_v2` below `$MMJAX_DATA`, where TFDS keeps what users fetch):

    v2_OpenEnded_mscoco_train2014_questions.json   v2_mscoco_train2014_annotations.json   train2014/*.jpg
    v2_OpenEnded_mscoco_val2014_questions.json     v2_mscoco_val2014_annotations.json     val2014/*.jpg

Two configs, so that each image is stored once: `questions`, whose `image` is a row number, and `images`, whose one
split has that row. `mmjax.data.Lookup` brings them together.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.prepare import data_dir
from mmjax.data.vqa_answers import accuracy, frequent, normalised
from mmjax.errors import UserError

PARTS = {'train': 'train2014', 'validation': 'val2014'}
"""Split: COCO's name of it, in the order in which images are numbered."""

KINDS = ('yes/no', 'number', 'other')
PEOPLE = 10  # who answered each question
SOURCE = 'https://visualqa.org/download.html'


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """`questions`: train, validation. `images`: images.

    answer: the commonest answer, of those that are the commonest of at least nine questions (3,129 of them); -1 where
    it is another. answers: what people said, as it was written. candidates, scores: those of their answers that are
    classes, with the official accuracy of each; filled up with -1 and 0.
    """

    name = 'vqa_v2'
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name='questions', description='questions, answers, and the row of the image'),
        tfds.core.BuilderConfig(name='images', description='the images that questions are about'),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        questions = {
            'image': np.int64,
            'image_id': np.int64,
            'question': tfds.features.Text(),
            'question_id': np.int64,
            'kind': tfds.features.ClassLabel(names=KINDS),
            'question_type': tfds.features.Text(),
            'answer': tfds.features.ClassLabel(),  # its names are known when the files are read
            'answers': tfds.features.Sequence(tfds.features.Text()),
            'candidates': tfds.features.Tensor(shape=(PEOPLE,), dtype=np.int32),
            'scores': tfds.features.Tensor(shape=(PEOPLE,), dtype=np.float32),
        }
        images = {'image': tfds.features.Image(encoding_format='jpeg'), 'image_id': np.int64}
        assert self.builder_config is not None
        return tfds.core.DatasetInfo(
            builder=self,
            description='Visual question answering about photographs, version 2.',
            homepage='https://visualqa.org',
            features=tfds.features.FeaturesDict(questions if self.builder_config.name == 'questions' else images),
            disable_shuffling=True,  # rows are looked up by their number; the loader shuffles
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # the files are fetched by the user, who has agreed to their terms
        root = files()
        asked = {split: read_questions(root, part) for split, part in PARTS.items()}
        images = {image: path for split, part in PARTS.items() for image, path in image_paths(root, part, asked[split])}
        assert self.builder_config is not None
        if self.builder_config.name == 'images':
            check_images(list(images.values()))
            return {'images': self._generate_examples(image_rows(images))}
        answered = {split: read_answers(root, part, asked[split]) for split, part in PARTS.items()}
        commonest = [answer['multiple_choice_answer'] for part in answered.values() for answer in part]
        classes = frequent(commonest)
        if not classes:
            raise UserError(f'vqa_v2: none of the {len(commonest)} questions in {root} has an answer that nine share')
        features: Any = self.info.features
        features['answer'].names = classes
        rows = {image: row for row, image in enumerate(images)}
        return {
            split: self._generate_examples(question_rows(asked[split], answered[split], rows, classes))
            for split in PARTS
        }

    def _generate_examples(self, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(rows)


def image_rows(images: dict[int, Path]) -> Iterator[dict[str, Any]]:
    """images: files by number, in the order of the rows."""
    for image, path in images.items():
        yield {'image': path, 'image_id': image}


def question_rows(
    asked: list[dict[str, Any]], answered: list[dict[str, Any]], rows: dict[int, int], classes: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """asked, answered: as the files have them. rows: of the images, by number. classes: the frequent answers."""
    numbers = {normalised(answer): number for number, answer in enumerate(classes)}
    for question, answer in zip(asked, answered, strict=True):
        people = [one['answer'] for one in answer['answers']]
        candidates, scores = candidates_of(people, classes, numbers)
        yield {
            'image': rows[question['image_id']],
            'image_id': question['image_id'],
            'question': question['question'],
            'question_id': question['question_id'],
            'kind': answer['answer_type'],
            'question_type': answer['question_type'],
            'answer': numbers.get(normalised(answer['multiple_choice_answer']), -1),
            'answers': people,
            'candidates': candidates,
            'scores': scores,
        }


def candidates_of(
    people: list[str], classes: tuple[str, ...], numbers: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The classes that somebody named, int32 [10] with -1 for none, and the official accuracy of each, float32 [10]."""
    named = sorted({numbers[normalised(answer)] for answer in people if normalised(answer) in numbers})
    candidates, scores = np.full(PEOPLE, -1, np.int32), np.zeros(PEOPLE, np.float32)
    candidates[: len(named)] = named
    scores[: len(named)] = [accuracy(classes[number], people) for number in named]
    return candidates, scores


def files() -> Path:
    """The directory of what the user has fetched. Raises UserError where there is none."""
    root = Path(os.environ.get('MMJAX_VQA_V2') or data_dir() / 'downloads' / 'manual' / 'vqa_v2').expanduser()
    if not root.is_dir():
        raise UserError(
            f'vqa_v2: no directory {root}; fetch questions, annotations and images from {SOURCE} and name their '
            'directory: MMJAX_VQA_V2=DIR'
        )
    return root


def read_questions(root: Path, part: str) -> list[dict[str, Any]]:
    """The questions on a part of COCO, in the order of the file: question, question_id, image_id."""
    rows = _read(root / f'v2_OpenEnded_mscoco_{part}_questions.json', 'questions')
    return _checked(root, part, rows, ('question', 'question_id', 'image_id'))


def read_answers(root: Path, part: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The annotations of these questions, in their order. Raises UserError where one has none or not ten answers."""
    rows = _read(root / f'v2_mscoco_{part}_annotations.json', 'annotations')
    fields = ('question_id', 'answer_type', 'question_type', 'multiple_choice_answer', 'answers')
    by_question = {row['question_id']: row for row in _checked(root, part, rows, fields)}
    answered = []
    for question in asked:
        row = by_question.get(question['question_id'])
        if row is None:
            raise UserError(
                f'vqa_v2: question {question["question_id"]} of {part} has no annotation in {root}; fetch both files '
                f'of version 2 again from {SOURCE}'
            )
        if len(row['answers']) != PEOPLE or row['answer_type'] not in KINDS:
            raise UserError(
                f'vqa_v2: question {question["question_id"]} of {part} has {len(row["answers"])} answers of kind '
                f"'{row['answer_type']}'; {PEOPLE} of a kind in {', '.join(KINDS)} are to be there"
            )
        answered.append(row)
    return answered


def image_paths(root: Path, part: str, asked: list[dict[str, Any]]) -> list[tuple[int, Path]]:
    """Number and file of each image that is asked about, in the order of the numbers."""
    images = sorted({question['image_id'] for question in asked})
    return [(image, root / part / f'COCO_{part}_{image:012d}.jpg') for image in images]


def check_images(paths: list[Path]) -> None:
    """Raises UserError where some are not there."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f'vqa_v2: {len(missing):,} of {len(paths):,} images are missing, such as {missing[0]}; fetch and unpack '
            'train2014.zip and val2014.zip from https://cocodataset.org'
        )


def _read(path: Path, key: str) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text('utf-8'))[key]
    except FileNotFoundError:
        raise UserError(f'vqa_v2: no {path}; fetch it from {SOURCE}, or set MMJAX_VQA_V2 to where it is') from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"it has no '{key}'" if isinstance(error, (KeyError, TypeError)) else error
        raise UserError(f'vqa_v2: {path} cannot be read ({told}); fetch it again from {SOURCE}') from error


def _checked(root: Path, part: str, rows: list[dict[str, Any]], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    for number, row in enumerate(rows):
        for field in fields:
            if field not in row:
                raise UserError(f"vqa_v2: entry {number} of {part} in {root} has no '{field}'; is it of version 2?")
    return rows
