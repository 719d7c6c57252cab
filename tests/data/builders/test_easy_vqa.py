"""The builder against the facts of the data set, on the installed package itself."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from experiments.fusion_easy_vqa import REFERENCES
from mmjax.data import Data, Image, Tfds, Words, eval_batches, open_data
from mmjax.data.builders import easy_vqa
from mmjax.data.builders.easy_vqa import (
    ANSWERS,
    COLORS,
    HELD_OUT,
    SHAPES,
    TEST_IDS_FROM,
    package_data,
    read_rows,
    split,
)
from mmjax.data.tokenizer import split_words


@pytest.fixture(scope='module')
def rows():
    return {part: read_rows(package_data(), part) for part in ('train', 'test')}


def answer(question: str, shape: str, color: str) -> str:
    """The right answer, from the English alone."""
    words = question.rstrip('?').split()
    if words[0] == 'what':
        return color if 'color' in words else shape
    asked_for_absence = 'not' in words or 'no' in words
    return 'yes' if (shape in words or color in words) != asked_for_absence else 'no'


def test_shape_and_colour_explain_every_answer(rows):
    """48,248 questions check what was read off 5,000 images."""
    wrong = [row for part in rows.values() for row in part if answer(row.question, row.shape, row.color) != row.answer]
    assert wrong == []


def test_known_facts(rows):
    assert len(rows['train']) == 38_575 and len(rows['test']) == 9_673
    assert {row.answer for row in rows['train']} == {row.answer for row in rows['test']} == set(ANSWERS)
    assert len(ANSWERS) == 13
    questions = {row.question for row in rows['train']}
    assert len(questions) == 107 and questions == {row.question for row in rows['test']}
    assert len({row.image for row in rows['train']}) == 4_000 and len({row.image for row in rows['test']}) == 1_000


def floors(train, test):
    """Of the commonest answer, and of the commonest to each question: to all, to yes/no and to open questions."""
    majority = Counter(row.answer for row in train).most_common(1)[0][0]
    by_question = defaultdict(Counter)
    for row in train:
        by_question[row.question][row.answer] += 1
    right = [(row, by_question[row.question].most_common(1)[0][0] == row.answer) for row in test]
    closed = [hit for row, hit in right if row.answer in ('yes', 'no')]
    opened = [hit for row, hit in right if row.answer not in ('yes', 'no')]
    return [np.mean(x) for x in ([row.answer == majority for row in test], closed + opened, closed, opened)]


def test_floors(rows):
    """Majority 37.3 % and question only 67.0 % of the official test (yes/no 82.5, open 23.3)."""
    assert floors(rows['train'], rows['test']) == pytest.approx([0.373, 0.670, 0.825, 0.233], abs=5e-4)


def test_floors_of_the_held_out_split(rows):
    splits = split(rows['train'] + rows['test'], 'heldout')
    majority, question, closed, _ = floors(splits['train'], splits['test'])
    assert [majority, question] == pytest.approx(list(REFERENCES.values()), abs=5e-4)
    assert closed == pytest.approx(0.818, abs=5e-4)


def test_chance_where_labels_are_permuted(rows):
    """The commonest permuted answer to each question: yes or no, whatever the question. There are few of them, so that
    the score is 36 % give or take 3 points, as the permutation has it.
    """
    splits = split(rows['train'] + rows['test'], 'heldout')
    train, rng = splits['train'], np.random.default_rng(0)
    found = []
    for _ in range(20):
        answers = rng.permutation([row.answer for row in train])
        relabelled = [row._replace(answer=str(given)) for row, given in zip(train, answers, strict=True)]
        found.append(floors(relabelled, splits['test'])[1])
    assert np.mean(found) == pytest.approx(0.36, abs=0.015) and np.std(found) == pytest.approx(0.03, abs=0.01)


def test_additive_floor(rows):
    """87.1 %: the optimum of cross-entropy over logits f(question) + g(shape, colour), which is convex.

    Yes/no 82.5, open 100: only yes/no questions need that the image and the question are read together.
    """
    questions = sorted({row.question for row in rows['train']})
    pictures = [(shape, color) for shape in SHAPES for color in COLORS]

    def table(part):
        counts = np.zeros((len(questions), len(pictures), len(ANSWERS)))
        for row in part:
            picture = pictures.index((row.shape, row.color))
            counts[questions.index(row.question), picture, ANSWERS.index(row.answer)] += 1
        return counts

    seen, asked = table(rows['train']), table(rows['test'])

    def logits(flat):
        f, g = np.split(flat.reshape(-1, len(ANSWERS)), [len(questions)])
        return f[:, None] + g[None]

    def loss_and_gradient(flat):
        log_p = log_softmax(logits(flat), axis=-1)
        slope = (seen.sum(-1, keepdims=True) * np.exp(log_p) - seen) / seen.sum()
        return -(seen * log_p).sum() / seen.sum(), np.concatenate([slope.sum(1), slope.sum(0)]).ravel()

    start = np.zeros((len(questions) + len(pictures)) * len(ANSWERS))
    found = minimize(loss_and_gradient, start, jac=True, method='L-BFGS-B', options={'maxiter': 2000, 'maxfun': 4000})
    chosen = np.eye(len(ANSWERS))[logits(found.x).argmax(-1)]
    closed = [ANSWERS.index(word) for word in ('yes', 'no')]
    opened = [i for i in range(len(ANSWERS)) if i not in closed]
    right = chosen * asked
    assert right.sum() / asked.sum() == pytest.approx(0.871, abs=1.5e-3)
    assert right[..., closed].sum() / asked[..., closed].sum() == pytest.approx(0.825, abs=2e-3)
    assert right[..., opened].sum() == asked[..., opened].sum()


def images(part):
    return {(row.part, row.image) for row in part}


def pairs(part):
    return {(row.shape, row.color) for row in part}


@pytest.mark.parametrize('config', ['official', 'heldout'])
def test_splits_share_no_image(rows, config):
    splits = split(rows['train'] + rows['test'], config)
    for name, part in splits.items():
        for other, rest in splits.items():
            assert name == other or not images(part) & images(rest)
        assert len(part) == len(set(map(id, part)))
    share = len(images(splits['validation'])) / len(images(splits['validation']) | images(splits['train']))
    assert 0.09 < share < 0.11
    used = set().union(*map(images, splits.values()))
    assert used == images(rows['train']) | images(rows['test'])


def test_official_test_is_the_official_test(rows):
    splits = split(rows['train'] + rows['test'], 'official')
    assert list(splits) == ['train', 'validation', 'test']
    assert splits['test'] == rows['test']
    assert sorted(splits['train'] + splits['validation']) == sorted(rows['train'])


def test_held_out_pairs_are_seen_in_the_test_alone(rows):
    assert len(HELD_OUT) == len(set(HELD_OUT)) == 6
    assert Counter(shape for shape, _ in HELD_OUT) == dict.fromkeys(SHAPES, 2)
    assert len({color for _, color in HELD_OUT}) == 6
    splits = split(rows['train'] + rows['test'], 'heldout')
    everything = {(shape, color) for shape in SHAPES for color in COLORS}
    assert len(everything) == 24
    for name, part in splits.items():
        assert pairs(part) == (set(HELD_OUT) if name == 'test' else everything - set(HELD_OUT)), name
    assert {row.part for row in splits['test_seen']} == {'test'}
    assert {row.part for row in splits['test']} == {'train', 'test'}
    assert {word for row in splits['test'] for word in split_words(row.question)} <= {
        word for row in splits['train'] for word in split_words(row.question)
    }


def test_prepared_rows_are_those_of_the_package(rows, tmp_path_factory, monkeypatch):
    """The whole way: prepared, read, decoded and batched. On a twelfth of the questions, to take seconds."""
    monkeypatch.setattr(easy_vqa, 'read_rows', lambda root, part: rows[part][:2000])
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path_factory.mktemp('easy_vqa')))
    fields = {'image': 'image', 'text': 'question'} | {
        key: key for key in ('answer', 'kind', 'image_id', 'shape', 'color')
    }
    vocabulary = tuple(sorted({word for row in rows['test'] for word in split_words(row.question)}))
    words = Words(vocabulary, length=12)
    data = Data(Tfds('easy_vqa/heldout', 'test', fields), (Image(size=64), words))
    expected = split(rows['train'][:2000] + rows['test'][:2000], 'heldout')['test']
    opened = open_data(data)
    assert len(opened) == len(expected)
    labels = opened.labels
    assert labels['answer'] == ANSWERS and labels['kind'] == ('yes/no', 'open')
    pictures = {}
    for batch in eval_batches(data, batch_size=512):
        for index, weight in zip(batch['index'], batch['weight'], strict=True):
            row, at = expected[index], index % 512
            if not weight:
                continue
            assert words.decode(batch['text'][at]) == ' '.join(split_words(row.question))
            assert labels['answer'][batch['answer'][at]] == row.answer
            assert labels['kind'][batch['kind'][at]] == ('yes/no' if row.answer in ('yes', 'no') else 'open')
            assert (labels['shape'][batch['shape'][at]], labels['color'][batch['color'][at]]) == (row.shape, row.color)
            assert batch['image_id'][at] == row.image + (TEST_IDS_FROM if row.part == 'test' else 0)
            pictures.setdefault(int(batch['image_id'][at]), set()).add(batch['image'][at].tobytes())
    assert len(pictures) == len(images(expected)) and all(len(found) == 1 for found in pictures.values())
    assert len(set().union(*pictures.values())) == len(pictures)


def test_captions_are_of_each_image_once(rows, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(easy_vqa, 'read_rows', lambda root, part: rows[part][:300])
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path_factory.mktemp('easy_vqa')))
    official = split(rows['train'][:300] + rows['test'][:300], 'official')
    fields = {'image': 'image', 'text': 'caption'} | {key: key for key in ('image_id', 'shape', 'color')}
    for name, part in official.items():
        reader = open_data(Data(Tfds('easy_vqa/captions', name, fields))).reader
        found = {example['image_id'].item(): example for example in reader.read(range(len(reader)))}
        start = TEST_IDS_FROM if name == 'test' else 0
        assert list(found) == sorted({row.image + start for row in part}) and len(found) == len(reader)
        for row in part:
            assert found[row.image + start]['text'] == f'a {row.color} {row.shape}'
            assert SHAPES[found[row.image + start]['shape']] == row.shape
