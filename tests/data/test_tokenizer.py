import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.data import tokenizer
from mmjax.data.tokenizer import CUT, Bytes, Words, split_words
from mmjax.errors import BadExample, UserError
from mmjax.types import PAD_ID

COLORS = Words(('blue', 'red', 'is', 'it'), length=6)


def ids(tokenizer, text):
    return tokenizer({'text': text})['text']


def test_words_are_numbered_in_the_order_of_the_vocabulary():
    example = COLORS({'text': 'Is it RED, or blue?'})
    assert example['text'].tolist() == [4, 5, 3, 1, 2, 0]
    assert example['text'].dtype == np.int32
    assert example['text/present'] == np.True_
    assert COLORS.size == 6
    assert COLORS.decode(example['text']) == 'is it red ? blue'


def test_padding_is_what_the_encoders_mask():
    assert tokenizer.PAD_ID == PAD_ID


def test_words_of_any_script():
    assert split_words('Où est l-Été, 東京?') == ['où', 'est', 'l', 'été', '東京']


@pytest.mark.parametrize('tokenizer', [COLORS, Bytes(6)])
def test_absent_text_is_all_padding(tokenizer):
    example = tokenizer({'text': None})
    assert example['text'].tolist() == [0] * 6
    assert example['text/present'] == np.False_
    assert tokenizer({'text': ''})['text/present'] == np.True_


def test_a_long_text_is_cut_and_told_once():
    CUT.clear()
    with pytest.warns(UserWarning, match="a 'text' of 7 tokens was cut to length=6") as told:
        assert ids(COLORS, 'is it is it is it red').tolist() == [4, 5, 4, 5, 4, 5]
        ids(COLORS, 'is it is it is it red blue')
    assert len(told) == 1
    assert CUT == {('text', 6): 2}


@given(st.text(st.characters(exclude_characters='\0'), max_size=60))
def test_bytes_come_back_exactly(text):
    tokenizer = Bytes(length=300)
    tokens = ids(tokenizer, text)
    assert tokens.shape == (300,) and tokens.max() < tokenizer.size
    assert tokenizer.decode(tokens) == text


@given(st.text(st.characters(exclude_characters='\0'), min_size=1, max_size=30), st.integers(1, 20))
@pytest.mark.filterwarnings('ignore:Bytes. a')
def test_cut_bytes_are_a_beginning_of_the_text(text, length):
    assert text.startswith(Bytes(length).decode(ids(Bytes(length), text)))


@given(st.lists(st.from_regex(r'[a-zà-öø-ÿ0-9]{1,6}', fullmatch=True), unique=True, min_size=1, max_size=8))
def test_known_words_come_back_exactly(words):
    vocabulary = Words(tuple(words), length=len(words))
    assert vocabulary.decode(
        ids(vocabulary, ', '.join(words).upper() if ' '.join(words).isascii() else ' '.join(words))
    ) == ' '.join(words)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: Words(('red', 'Blue'), 4), "'Blue', which matches no text"),
        (lambda: Words(('red car',), 4), "'red car'"),
        (lambda: Words(('red', 'red'), 4), "'red' twice"),
        (lambda: Words(('red',), 0), 'Words.length is 0'),
        (lambda: Bytes(-1), 'Bytes.length is -1'),
        (lambda: Bytes(4)({'text': b'raw'}), "'text' is bytes; it takes a text"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(UserError, match=message.replace('(', r'\(')):
        make()


@pytest.mark.parametrize(
    'text, reason', [('a' * 100_001, 'long text'), ('a\0b', 'text with NUL'), (3, 'no text'), (b'a', 'no text')]
)
def test_what_is_no_text_of_a_person_is_a_bad_example(text, reason):
    with pytest.raises(BadExample) as raised:
        COLORS({'text': text})
    assert raised.value.reason == reason
