"""The builder of VQA v2 on files of the official layout: what it makes of them, and what it says of those that lack."""

import json

import numpy as np
import pytest

from mmjax.data import Lookup, Tfds
from mmjax.data.builders import vqa_v2
from mmjax.errors import UserError
from tests.standard_sets import jpeg, write_vqa

FIELDS = {
    'image': 'image',
    'text': 'question',
    'answer': 'answer',
    'answer/candidates': 'candidates',
    'answer/scores': 'scores',
    'kind': 'kind',
    'people': 'answers',
    'id': 'question_id',
}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    home = tmp_path_factory.mktemp('vqa')
    (home / 'files').mkdir()
    write_vqa(home / 'files')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMJAX_DATA', str(home / 'data'))
        patch.setenv('MMJAX_VQA_V2', str(home / 'files'))
        yield {
            split: Lookup(
                Tfds('vqa_v2/questions', split, FIELDS), Tfds('vqa_v2/images', 'images', {'image': 'image'})
            ).open()
            for split in ('train', 'validation', 'train+validation')
        }


def test_every_question_has_its_image(prepared):
    for split, offset in (('train', 0), ('validation', 1000)):
        reader = prepared[split]
        assert len(reader) == 20
        for row, example in enumerate(reader.read(range(20))):
            assert example['id'] == 1000 * (offset + row // 4) + row % 4
            assert example['image'] == jpeg(offset + row // 4)
            assert example['text'] == f'Is it {row % 4}, really?'
    assert prepared['train+validation'].read([3, 23])[1]['image'] == jpeg(1000)


def test_classes_are_the_common_answers_and_scores_the_official_ones(prepared):
    """20 times yes or no by image and by seven to three, ten times 2, each thing once: yes 14, no 6 < 9."""
    reader = prepared['train']
    assert reader.labels['answer'] == ('yes', '2') and reader.labels['kind'] == ('yes/no', 'number', 'other')
    no, seven, number, thing = reader.read(range(4))
    assert no['people'] == ['no'] * 10 and no['answer'] == -1 and no['answer/candidates'].tolist() == [-1] * 10
    assert seven['answer'] == 0 and seven['answer/candidates'].tolist()[:2] == [0, -1]
    assert seven['answer/scores'].tolist()[:2] == [1, 0]
    assert number['answer/candidates'].tolist()[:2] == [1, -1] and number['answer'] == 1
    assert number['answer/scores'][0] == 1  # three say '2' and two say 'two': five agree
    assert thing['answer'] == -1 and thing['answer/candidates'][0] == 0
    np.testing.assert_allclose(thing['answer/scores'], [0.3] + [0] * 9, rtol=1e-6)


def damaged(root, name, change):
    path = root / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.fixture
def root(tmp_path, monkeypatch):
    write_vqa(tmp_path)
    monkeypatch.setenv('MMJAX_VQA_V2', str(tmp_path))
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'data'))
    return tmp_path


def without_the_last(table, key):
    return {**table, key: table[key][:-1]}


QUESTIONS, ANNOTATIONS = 'v2_OpenEnded_mscoco_train2014_questions.json', 'v2_mscoco_train2014_annotations.json'


def test_a_missing_directory_or_file_is_told(root, monkeypatch):
    (root / ANNOTATIONS).unlink()
    with pytest.raises(UserError, match=f'no .*{ANNOTATIONS}; fetch it from https://visualqa.org'):
        Tfds('vqa_v2', 'train', {'text': 'question'}).open()
    (root / ANNOTATIONS).write_text('{"questions": []}')
    with pytest.raises(UserError, match=f"{ANNOTATIONS} cannot be read .it has no 'annotations'"):
        vqa_v2.read_answers(root, 'train2014', [])
    (root / QUESTIONS).write_text('{"questions": [')
    with pytest.raises(UserError, match=f'{QUESTIONS} cannot be read'):
        vqa_v2.read_questions(root, 'train2014')
    monkeypatch.setenv('MMJAX_VQA_V2', str(root / 'nowhere'))
    with pytest.raises(UserError, match=r'no directory .*nowhere; fetch .* MMJAX_VQA_V2=DIR'):
        vqa_v2.files()
    monkeypatch.delenv('MMJAX_VQA_V2')
    (root / 'data/downloads/manual/vqa_v2').mkdir(parents=True)
    assert vqa_v2.files() == root / 'data/downloads/manual/vqa_v2'


def test_missing_images_are_counted(root):
    for image in (1, 3):
        (root / f'train2014/COCO_train2014_{image:012d}.jpg').unlink()
    with pytest.raises(UserError, match=r'2 of 10 images are missing, such as .*train2014_000000000001.jpg'):
        Tfds('vqa_v2/images', 'images', {'image': 'image'}).open()


def test_files_that_do_not_belong_together_are_told(root):
    asked = vqa_v2.read_questions(root, 'train2014')
    damaged(root, ANNOTATIONS, lambda table: without_the_last(table, 'annotations'))
    with pytest.raises(UserError, match='question 4003 of train2014 has no annotation'):
        vqa_v2.read_answers(root, 'train2014', asked)
    damaged(root, ANNOTATIONS, lambda table: {'annotations': [without_the_last(table['annotations'][0], 'answers')]})
    with pytest.raises(UserError, match='question 0 of train2014 has 9 answers'):
        vqa_v2.read_answers(root, 'train2014', asked[:1])
    damaged(root, QUESTIONS, lambda table: {'questions': [{'question': 'Is it version 1?'}]})
    with pytest.raises(UserError, match=r"entry 0 of train2014 .* has no 'question_id'; is it of version 2"):
        vqa_v2.read_questions(root, 'train2014')


def test_too_few_answers_alike_are_told(root):
    for part in ('train2014', 'val2014'):
        name = f'v2_mscoco_{part}_annotations.json'
        damaged(
            root,
            name,
            lambda t: {
                'annotations': [a | {'multiple_choice_answer': str(a['question_id'])} for a in t['annotations']]
            },
        )
    with pytest.raises(UserError, match='none of the 40 questions'):
        Tfds('vqa_v2/questions', 'train', {'text': 'question'}).open()
