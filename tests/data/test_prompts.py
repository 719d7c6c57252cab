"""Rows of prompt and answer, written out; and back to text."""

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.data import AnyLanguage, Bytes, Image, InLanguage, PromptAnswer, References, Words
from mmjax.data.base import apply
from mmjax.data.tokenizer import CUT
from mmjax.errors import UserError

WORDS = PromptAnswer(Words(key='text', vocabulary=('de', 'ein', 'hund', 'rot'), length=7))
BYTES = PromptAnswer(Bytes(key='text', length=40))
DE, EIN, HUND, ROT, END = range(2, 7)
LANGUAGES = ('en', 'de', 'fr')
NAMES = ['a dog', 'ein hund', 'un chien']


def row(prompt, answer, transform=WORDS):
    return apply(transform, {'text': (prompt, answer), 'answer': 3})


def test_a_row_says_what_is_given_and_what_is_learned():
    found = row('de:', 'ein Hund')
    np.testing.assert_array_equal(found['text'], [END, DE, EIN, HUND, END, 0, 0])
    np.testing.assert_array_equal(found['text/causal'], [0, 0, 1, 1, 1, 0, 0])
    assert found['text/present'] and found['answer'] == 3 and WORDS.size == END + 1


def test_without_a_prompt_it_starts_from_the_begin_token():
    for text in ('rot', ('', 'rot')):
        found = apply(WORDS, {'text': text})
        np.testing.assert_array_equal(found['text'], [END, ROT, END, 0, 0, 0, 0])
        np.testing.assert_array_equal(found['text/causal'], [0, 1, 1, 0, 0, 0, 0])


def test_an_absent_answer_is_all_padding():
    found = apply(WORDS, {'text': None})
    assert not found['text'].any() and not found['text/causal'].any() and not found['text/present']


def test_an_empty_text_of_the_data_is_no_answer():
    """One that a user typed is a prompt to go on from."""
    for chosen in ((), (InLanguage(LANGUAGES, 'fr'),)):
        example = {'text': ['a', 'b', ' '] if chosen else ''}
        with pytest.warns(UserWarning, match="'text' is empty in some example"):
            for transform in (*chosen, BYTES):
                example = apply(transform, example)
        assert not example['text'].any() and not example['text/causal'].any() and not example['text/present']
    assert row('de:', '')['text/present']


def test_a_long_answer_is_cut_before_its_end_and_says_so():
    CUT.clear()
    with pytest.warns(UserWarning, match="a 'text' of 6 tokens was cut to 4"):
        found = row('de:', 'rot ' * 6)
    np.testing.assert_array_equal(found['text'], [END, DE, ROT, ROT, ROT, ROT, END])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        row('de:', 'rot ' * 6)
    assert CUT['text', 7] == 2


def test_a_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(UserError, match='has 5 tokens, which leaves no room for an answer in a row of 7'):
        row('de ' * 5, 'rot')


@given(st.text(max_size=8), st.text(max_size=6))
def test_what_was_written_is_read_again(prompt, answer):
    found = row(prompt, answer, BYTES)
    assert BYTES.decode(found['text'][found['text/causal'] == 1]) == answer
    assert BYTES.decode(found['text']) == prompt + answer


def test_nothing_is_read_behind_the_end():
    assert WORDS.decode([EIN, HUND, END, ROT, ROT]) == 'ein hund'
    assert WORDS.decode([END, 0, 0]) == WORDS.decode([]) == ''


def test_a_language_chooses_the_text_and_the_prompt():
    found = apply(InLanguage(LANGUAGES, 'fr'), {'text': NAMES, 'base': 1})
    assert found == {'text': ('fr:', 'un chien'), 'base': 1}
    assert apply(InLanguage(LANGUAGES, 'fr'), {'text': None})['text'] is None
    typed = {'text': ('de:', '')}  # by a user, who has chosen already
    assert apply(InLanguage(LANGUAGES, 'fr'), typed) == typed
    with pytest.raises(UserError, match="'text' is a list of 2; it takes a text, or a pair"):
        WORDS({'text': NAMES[:2]})
    with pytest.raises(UserError, match="no language 'eng'; did you mean 'en'"):
        InLanguage(LANGUAGES, 'eng')
    with pytest.raises(UserError, match='holds 2 texts, not one for each of the 3 languages'):
        apply(InLanguage(LANGUAGES, 'fr'), {'text': NAMES[:2]})


def test_any_language_draws_evenly_among_those_it_may():
    transform, rng = AnyLanguage(LANGUAGES, among=('en', 'fr')), np.random.default_rng(0)
    drawn = Counter(apply(transform, {'text': NAMES}, rng)['text'] for _ in range(400))
    assert drawn.keys() == {('en:', 'a dog'), ('fr:', 'un chien')} and abs(drawn['en:', 'a dog'] - 200) < 40


def test_references_are_whole_or_refused():
    several = References(length=12, most=3)
    found = apply(several, {'references': ['ein Hund', 'Hündin']})['references']
    assert (found.shape, found.dtype) == ((3, 12), np.uint8)
    assert [bytes(x).rstrip(b'\0').decode() for x in found] == ['ein Hund', 'Hündin', '']
    assert not apply(several, {'references': None})['references'].any()
    with pytest.raises(UserError, match='most is 3, but an example has 4'):
        apply(several, {'references': list('abcd')})
    with pytest.raises(UserError, match="length is 12, but 'references' has one of 13 bytes"):
        apply(several, {'references': 'x' * 13})


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(UserError, match='Image is none: it has no length'):
        PromptAnswer(Image())
