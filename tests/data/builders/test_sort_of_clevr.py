"""The builder against what can be seen in its pixels and read in its English."""

import hashlib
import io
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from mmjax.data import Data, Image, Tfds, Words, eval_batches, open_data
from mmjax.data.builders import sort_of_clevr as clevr

KEPT = ('image', 'code', 'objects', 'answer', 'kind', 'subtype', 'image_id')
FIELDS = {key: key for key in KEPT} | {'text': 'question'}
WORDS = Words(
    vocabulary=(
        'blue', 'closest', 'from', 'furthest', 'gray', 'green', 'half', 'have', 'how', 'in', 'is', 'left', 'many',
        'object', 'objects', 'of', 'orange', 'red', 'shape', 'the', 'to', 'top', 'what', 'yellow',
    ),
    length=12,
)  # fmt: skip
CODES = Words(vocabulary=(*clevr.SUBTYPES, *clevr.COLORS), length=2, key='code')
RGB = {
    'red': (255, 0, 0),
    'green': (0, 255, 0),
    'blue': (0, 0, 255),
    'orange': (255, 165, 0),
    'gray': (128, 128, 128),
    'yellow': (255, 255, 0),
}
SMALL = {'train': range(8), 'validation': range(9000, 9003), 'test': range(9800, 9803)}


@pytest.fixture(scope='module')
def everything():
    """Scenes and questions of all 10,000 images, by split."""
    return {name: [clevr.generate(number) for number in numbers] for name, numbers in clevr.IMAGES.items()}


def rows(images):
    return [(scene, asked) for scene, questions in images for asked in questions]


def look(pixels):
    """Colour -> (row, column, shape) of what an image shows, and nothing but that on white."""
    seen = {}
    left = (pixels != 255).any(-1)
    for color, value in RGB.items():
        mask = (pixels == value).all(-1)
        left &= ~mask
        _, pieces = ndimage.label(mask, np.ones((3, 3)))
        assert pieces == 1, color
        (place,) = ndimage.find_objects(mask.astype(int))
        fill = mask[place].mean()
        assert mask[place].shape == (11, 11) and (fill == 1 or abs(fill - np.pi / 4) < 0.03)
        seen[color] = (*ndimage.center_of_mass(mask), 'square' if fill == 1 else 'circle')
    assert not left.any()
    # Nothing touches: together there are as many pieces as objects.
    assert ndimage.label((pixels != 255).any(-1), np.ones((3, 3)))[1] == len(RGB)
    return seen


def told(objects):
    """What `look` sees, read from the list of objects."""
    seen = {}
    for row, column, square, *color in objects.tolist():
        assert square in (0, 1) and sorted(color) == [0, 0, 0, 0, 0, 1]
        seen[tuple(RGB)[color.index(1)]] = (37 + 37 * row, 37 + 37 * column, 'square' if square else 'circle')
    return seen


def solve(question, seen):
    """The answers that the English admits: one, unless the question is ambiguous."""
    words = question.rstrip('?').split()
    (color,) = [word for word in words if word in RGB]
    row, column, shape = seen[color]
    if words[:2] == ['how', 'many']:
        return {str(sum(other[2] == shape for other in seen.values()))}
    if words[0] == 'is':
        place, middle = (column, row)['top' in words], (75 - 1) / 2
        return {'yes' if place < middle else 'no'} if place != middle else {'yes', 'no'}
    if 'closest' in words or 'furthest' in words:
        far = {name: np.hypot(row - y, column - x) for name, (y, x, _) in seen.items() if name != color}
        limit = min(far.values()) if 'closest' in words else max(far.values())
        nominees = [name for name, distance in far.items() if abs(distance - limit) < 1e-6]
        return {seen[name][2] for name in nominees} if len(nominees) == 1 else {'circle', 'square'}
    return {shape}


def test_pixels_and_english_explain_every_answer(everything):
    """6,000 questions about 300 images."""
    pictures = set()
    for scene, questions in [*everything['train'][:100], *everything['validation'][:100], *everything['test'][:100]]:
        pixels = clevr.draw(scene)
        assert pixels.shape == (75, 75, 3) and pixels.dtype == np.uint8
        pictures.add(pixels.tobytes())
        seen = look(pixels)
        assert [(asked.question, {asked.answer}) for asked in questions] == [
            (asked.question, solve(asked.question, seen)) for asked in questions
        ]
    assert len(pictures) == 300


def test_ten_questions_of_each_kind_and_none_twice(everything):
    for images in everything.values():
        for _, questions in images:
            assert len({asked.question for asked in questions}) == 20
            assert Counter(clevr.SUBTYPES[asked.subtype].kind for asked in questions) == dict.fromkeys(clevr.KINDS, 10)
    kinds = {name: subtype.kind for name, subtype in clevr.SUBTYPES.items()}
    assert kinds == dict.fromkeys(('shape', 'left', 'top'), 'non-relational') | dict.fromkeys(
        ('closest', 'furthest', 'count'), 'relational'
    )


def test_splits_share_no_image():
    assert {name: len(numbers) for name, numbers in clevr.IMAGES.items()} == {
        'train': 9000,
        'validation': 800,
        'test': 200,
    }
    for one, other in combinations(clevr.IMAGES.values(), 2):
        assert not set(one) & set(other)


def test_no_picture_comes_twice(everything):
    scenes = [scene for images in everything.values() for scene, _ in images]
    assert len({(scene.centers.tobytes(), scene.square.tobytes()) for scene in scenes}) == 10_000


def test_answers_are_balanced(everything):
    """Of 30,000 a subtype, within 0.01 (3 standard errors): halves, and 1 + Binomial(5, 1/2) objects of a shape."""
    given = defaultdict(Counter)
    for _, asked in rows(everything['train']):
        given[asked.subtype][asked.answer] += 1
    for subtype, counts in given.items():
        total = sum(counts.values())
        assert total == pytest.approx(30_000, rel=0.02)
        expected = {'left': ('yes', 'no'), 'top': ('yes', 'no')}.get(subtype, ('circle', 'square'))
        shares = dict.fromkeys(expected, 1 / 2)
        if subtype == 'count':
            shares = {str(k + 1): ways / 32 for k, ways in enumerate((1, 5, 10, 10, 5, 1))}
        assert {word: count / total for word, count in counts.items()} == pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize(
    'known, floors',
    [
        (lambda scene, asked: clevr.SUBTYPES[asked.subtype].kind, (0.337, 0.330, 0.345)),
        (lambda scene, asked: asked.question, (0.467, 0.502, 0.433)),
        (lambda scene, asked: (asked.question, scene.square.tobytes()), (0.733, 0.669, 0.797)),
    ],
    ids=['kind', 'question', 'question and shapes'],
)
def test_floors(everything, known, floors):
    """All, non-relational, relational: the commonest answer in train to what is known, on the test."""
    given = defaultdict(Counter)
    for scene, asked in rows(everything['train']):
        given[known(scene, asked)][asked.answer] += 1
    right = defaultdict(list)
    for scene, asked in rows(everything['test']):
        right[clevr.SUBTYPES[asked.subtype].kind].append(
            given[known(scene, asked)].most_common(1)[0][0] == asked.answer
        )
    kinds = [np.mean(right[kind]) for kind in clevr.KINDS]
    assert [np.mean(kinds), *kinds] == pytest.approx(floors, abs=6e-4)  # ten questions each: the kinds weigh the same


def test_an_image_depends_on_its_number_alone(everything):
    """And on nothing that a library may change: should the digest do, so must the builder's VERSION."""
    digest = hashlib.sha256()
    for number in (9801, 7, 0):
        scene, questions = clevr.generate(number)
        kept = everything['test'][1] if number == 9801 else everything['train'][number]
        np.testing.assert_array_equal(scene.centers, kept[0].centers)
        np.testing.assert_array_equal(scene.square, kept[0].square)
        assert questions == kept[1]
        digest.update(clevr.draw(scene).tobytes() + repr([tuple(asked) for asked in questions]).encode())
    assert digest.hexdigest()[:16] == '0bbf92b30fd83653'


def test_a_png_keeps_every_pixel():
    pixels = clevr.draw(clevr.generate(3)[0])
    with PIL.Image.open(io.BytesIO(clevr.png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(clevr, 'IMAGES', SMALL)
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))


def test_prepared_rows_can_be_answered_from_what_a_model_is_given(small):
    """The whole way: prepared, read, decoded and batched."""
    pictures = {}
    for name, numbers in SMALL.items():
        data = Data(Tfds('sort_of_clevr', name, FIELDS), (Image(size=75), WORDS, CODES))
        opened = open_data(data)
        assert len(opened) == 20 * len(numbers)
        labels = opened.labels
        assert labels['answer'] == ('no', 'yes', 'circle', 'square', '1', '2', '3', '4', '5', '6')
        assert labels['kind'] == ('non-relational', 'relational')
        counts = Counter()
        for batch in eval_batches(data, batch_size=100):
            for at in np.flatnonzero(batch['weight']):
                text = WORDS.decode(batch['text'][at])
                assert '?' not in text  # no unknown word
                seen = look(batch['image'][at])
                assert solve(text, seen) == {labels['answer'][batch['answer'][at]]}
                listed = told(batch['objects'][at])
                assert {color: shape for color, (*_, shape) in listed.items()} == {c: s for c, (*_, s) in seen.items()}
                for color, (*place, _) in listed.items():
                    assert place == pytest.approx(seen[color][:2], abs=1e-4)
                subtype = labels['subtype'][batch['subtype'][at]]
                code = CODES.decode(batch['code'][at]).split()
                assert code == [subtype, next(word for word in text.split() if word in RGB)]
                relational = 'object closest' in text or 'object furthest' in text or 'how many' in text
                assert labels['kind'][batch['kind'][at]] == ('relational' if relational else 'non-relational')
                assert subtype in text or (subtype == 'count' and 'how many' in text)
                number = int(batch['image_id'][at])
                counts[number] += 1
                pictures.setdefault(number, set()).add(batch['image'][at].tobytes())
        assert counts == dict.fromkeys(numbers, 20)
    assert all(len(found) == 1 for found in pictures.values())
    assert len(set().union(*pictures.values())) == len(pictures) == 14


def test_two_preparations_have_equal_rows(small, monkeypatch, tmp_path):
    """Their files need not be: the order of fields within a record is the writer's."""
    seen = {}
    for home in ('one', 'other'):
        monkeypatch.setenv('MMJAX_DATA', str(tmp_path / home))
        reader = Tfds('sort_of_clevr', 'train+validation+test', FIELDS).open()
        seen[home] = reader.read(range(len(reader)))
    assert len(seen['one']) == 280
    np.testing.assert_equal(seen['one'], seen['other'])
