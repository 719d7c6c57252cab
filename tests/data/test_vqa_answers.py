"""VQA's accuracy and its normalisation, on cases worked by hand from the rules of the official script."""

import pytest

from mmjax.data.vqa_answers import CONTRACTIONS, accuracy, frequent, normalised


@pytest.mark.parametrize(
    ('answer', 'expected'),
    [
        ('Yes', 'yes'),
        ('  a dog\n', 'dog'),
        ('The Dogs', 'dogs'),
        ('an apple and the pear', 'apple and pear'),
        ('a', ''),
        ('two', '2'),
        ('none', '0'),
        ('Ten of them', '10 of them'),
        ('twenty', 'twenty'),
        ('dont know', "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ('ill', 'ill'),  # a word of its own
        ('black-and-white', 'black and white'),
        ('black - white', 'black white'),  # a mark beside a space goes without leaving one
        ('salt/pepper', 'salt pepper'),
        ('red, blue', 'red blue'),
        ('red,blue', 'red blue'),
        ('(maybe)', 'maybe'),
        ('yes!', 'yes'),
        ('1,000', '1000'),
        ('1,000 x-rays', '1000 xrays'),  # with such a number in it, every mark goes
        ('3.5', '3.5'),
        ('.5', '.5'),
        ('u.s.a.', 'usa'),
        ('no. 5', 'no 5'),
        ('10:30', '10:30'),
        ("men's", "men's"),
        ('new\tyork', 'new york'),
    ],
)
def test_normalised(answer, expected):
    assert normalised(answer) == expected


def test_contractions():
    """The table of the official script, but for four words with a capital letter, which it never finds."""
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["y'all'dve"] == CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert CONTRACTIONS["'ow'sat"] == "'ow's'at" and CONTRACTIONS["somebody'd"] == 'somebodyd'
    assert not {'well', 'were', 'id', 'shell', 'hell', 'wed', 'shed', 'lets', 'im', 'ive'} & set(CONTRACTIONS)


@pytest.mark.parametrize(('agree', 'expected'), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)])
def test_accuracy_by_how_many_of_ten_agree(agree, expected):
    """One of ten: 9/10 x 1/3, as it counts nothing where he is left out. Two: 2/10 x 1/3 + 8/10 x 2/3, and so on."""
    people = ['red'] * agree + [f'other {n}' for n in range(10 - agree)]
    assert accuracy('red', people) == pytest.approx(expected)


def test_accuracy_leaves_each_of_the_people_out_in_turn():
    """From the definition, with people who write in several ways."""
    people = ['two', '2', 'The two', 'three', '3', 'dogs', 'Dogs!', 'cats', 'a cat', 'birds']
    forms = ['2', '2', '2', '3', '3', 'dogs', 'dogs', 'cats', 'cat', 'birds']
    for answer, form in (('2', '2'), ('Three', '3'), ('dogs', 'dogs'), ('cat', 'cat'), ('fish', 'fish')):
        shares = [min(1, sum(f == form for j, f in enumerate(forms) if j != i) / 3) for i in range(10)]
        assert accuracy(answer, people) == pytest.approx(sum(shares) / 10)


def test_where_all_say_the_same_nothing_is_normalised():
    assert accuracy('2', ['2'] * 10) == 1
    assert accuracy('2', ['two'] * 10) == 0 and accuracy('two', ['two'] * 10) == 1
    assert accuracy('2', ['two'] * 9 + ['Two']) == 1


def test_frequent_answers():
    answers = ['yes'] * 12 + ['no'] * 11 + ['No'] * 3 + ['two'] * 4 + ['2'] * 5 + ['rare'] * 8 + ['a'] * 9
    assert frequent(answers) == ('no', 'yes', 'a', '2')  # of equally common ones '' comes first, called 'a'
    assert frequent(answers, at_least=10) == ('no', 'yes')
    assert normalised(frequent(answers)[2]) == ''
    assert frequent([]) == ()
