"""One of several values: at a place, or another in each epoch, by the loader's own draws."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from mmjax.data import AnyItem, Data, Item, Reader, Source, Words, eval_batches, train_batches
from mmjax.errors import UserError

NAMES = ('one', 'eins', 'un', 'uno')
WORDS = Words(key='text', vocabulary=NAMES, length=1)


@dataclass(frozen=True)
class Named(Source):
    def open(self):
        return NamedReader()


class NamedReader(Reader):
    labels, fingerprint = {}, 'named'

    def __len__(self):
        return 8

    def read(self, rows):
        return [{'text': list(NAMES)} for _ in rows]


def words(batches):
    return [WORDS.decode(row) for batch in batches for row in batch['text']]


def test_item_is_the_one_at_its_place():
    assert words(eval_batches(Data(Named(), (Item('text', 2), WORDS)), batch_size=4)) == ['un'] * 8


def test_any_item_draws_evenly_and_only_where_it_may():
    data = Data(Named(), (AnyItem('text', (0, 3)), WORDS))
    stream = train_batches(data, batch_size=8, seed=0)
    counts = Counter(words(next(stream) for _ in range(100)))
    stream.close()
    assert counts.keys() == {'one', 'uno'} and abs(counts['one'] - 400) < 60
    everything = train_batches(Data(Named(), (AnyItem('text'), WORDS)), batch_size=8, seed=0)
    first = words(next(everything) for _ in range(20))
    everything.close()
    again = train_batches(Data(Named(), (AnyItem('text'), WORDS)), batch_size=8, seed=0)
    assert set(first) == set(NAMES) and first == words(next(again) for _ in range(20))
    again.close()


def test_a_place_that_is_not_there():
    with pytest.raises(UserError, match="Item: no place 4 in 'text', of which an example has 4"):
        Item('text', 4)({'text': list(NAMES)})
    with pytest.raises(UserError, match="AnyItem: no place 9 in 'text'"):  # whichever is drawn
        AnyItem('text', (0, 9))({'text': list(NAMES)}, np.random.default_rng(0))
    with pytest.raises(UserError, match='has no text to choose from'):
        AnyItem('text')({'text': []}, np.random.default_rng(0))


@pytest.mark.parametrize('value', ['one', None])
def test_what_is_no_list_stays(value):
    """A text that somebody typed, and an absent one."""
    assert Item('text', 2)({'text': value}) == {'text': value}
    assert AnyItem('text', (1, 2))({'text': value}, np.random.default_rng(0)) == {'text': value}
