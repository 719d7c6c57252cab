import gzip
import struct
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from mmjax.data.builders import fashion_questions as fashion
from mmjax.errors import UserError


@pytest.fixture(scope='module')
def asked():
    """Items as unevenly spread as in a cut of the real set, and their questions."""
    items = np.random.default_rng(0).integers(0, 10, 20_000).astype(np.uint8)
    return items, fashion.ask(items)


def best_guess(keys, answers):
    """Accuracy of the best table from key to answer, fitted on the very rows that it is scored on."""
    table = defaultdict(Counter)
    for key, answer in zip(keys, answers, strict=True):
        table[key][answer] += 1
    return sum(max(counts.values()) for counts in table.values()) / len(answers)


def test_neither_side_alone_tells_the_answer_and_both_together_do(asked):
    items, questions = asked
    answers = [question.answer for question in questions]
    assert best_guess([question.question for question in questions], answers) < 0.505
    assert best_guess(items.tolist(), answers) < 0.505
    assert best_guess([0] * len(items), answers) < 0.505
    both = [(question.question, int(item)) for question, item in zip(questions, items, strict=True)]
    assert best_guess(both, answers) == 1


def test_the_text_does_not_name_the_item():
    words = {word for group in fashion.GROUPS for phrase in group.phrases for word in phrase.rstrip('?').split()}
    assert not words & {part for item in fashion.ITEMS for part in (item, *item.split())}
    phrases = [phrase for group in fashion.GROUPS for phrase in group.phrases]
    assert len(phrases) == len(set(phrases)) and len(fashion.GROUPS) == 8


def test_answers_are_those_of_the_table(asked):
    items, questions = asked
    for item, question in zip(items, questions, strict=True):
        group = next(group for group in fashion.GROUPS if question.question in group.phrases)
        assert question.answer == ('yes' if fashion.ITEMS[item] in group.yes else 'no')
    assert set().union(*(group.yes for group in fashion.GROUPS)) == set(fashion.ITEMS)


def test_every_question_is_asked_about_every_item(asked):
    items, questions = asked
    pairs = Counter((int(item), question.question) for item, question in zip(items, questions, strict=True))
    assert len(pairs) == 10 * sum(len(group.phrases) for group in fashion.GROUPS)


def test_questions_depend_on_the_items_alone(asked):
    items, questions = asked
    assert fashion.ask(items.copy()) == questions
    # Nor on an order that pixels or files could leak: neighbours of one item get different questions.
    shirts = [question.question for item, question in zip(items, questions, strict=True) if item == 6]
    assert np.mean([left == right for left, right in pairwise(shirts)]) < 0.12


def test_the_balance_solves_its_equations():
    counts = np.array([5, 80, 100, 100, 100, 100, 100, 120, 300, 100])
    table, yes = fashion.balanced(counts), fashion.membership()
    assert (table > 0).all()
    np.testing.assert_allclose((table * yes).sum(1), counts / 2, rtol=1e-2)
    np.testing.assert_allclose((table * yes).sum(0), (table * ~yes).sum(0), rtol=1e-2)


def idx(array, magic=None):
    head = struct.pack(f'>{1 + array.ndim}i', magic or 0x800 + array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def write(folder, images, labels):
    (folder / 't10k-images-idx3-ubyte.gz').write_bytes(images)
    (folder / 't10k-labels-idx1-ubyte.gz').write_bytes(labels)


IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([3, 1, 9], np.uint8)


def test_idx_files(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_FASHION_MNIST', str(tmp_path))
    write(tmp_path, idx(IMAGES), idx(LABELS))
    images, items = fashion.read_images('t10k')
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(items, LABELS)


@pytest.mark.parametrize(
    'images, labels, message',
    [
        (idx(IMAGES)[:-300], idx(LABELS), 'images-idx3-ubyte.gz cannot be read'),
        (b'no gzip at all', idx(LABELS), 'images-idx3-ubyte.gz cannot be read'),
        (gzip.compress(b'short'), idx(LABELS), 'is not the idx file'),
        (idx(IMAGES), idx(LABELS, magic=0x803), 'labels-idx1-ubyte.gz is not the idx file'),
        (idx(IMAGES), idx(LABELS[:2]), r'\[3, 28, 28\] pixels for 2 t10k labels'),
    ],
    ids=['truncated', 'not compressed', 'too short', 'of another kind', 'of another number'],
)
def test_bad_files_are_told(tmp_path, monkeypatch, images, labels, message):
    monkeypatch.setenv('MMJAX_FASHION_MNIST', str(tmp_path))
    write(tmp_path, images, labels)
    with pytest.raises(UserError, match=message):
        fashion.read_images('t10k')


def test_missing_files_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_FASHION_MNIST', str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='apt-get install dataset-fashion-mnist, or set MMJAX_FASHION_MNIST'):
        fashion.read_images('train')
