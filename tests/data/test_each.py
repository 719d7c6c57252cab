"""A row for each caption of an image: which rows there are, and that each image is read once."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from mmjax.data import Data, Each, Image, Reader, Source, Words, eval_batches
from mmjax.errors import UserError

CAPTIONS = (('a', 'b', 'c'), ('d', 'e'), ('f', 'g'))


@dataclass(frozen=True)
class Captioned(Source):
    opened: list = field(default_factory=list, compare=False)

    def open(self):
        self.opened.append(CaptionedReader())
        return self.opened[-1]


class CaptionedReader(Reader):
    labels, fingerprint = {'kind': ('x',)}, 'captioned'

    def __init__(self):
        self.reads = []

    def __len__(self):
        return len(CAPTIONS)

    def read(self, rows):
        self.reads += rows
        return [{'image': np.full((4, 4, 3), row, np.uint8), 'text': list(CAPTIONS[row])} for row in rows]


def test_each_example_stands_there_once_for_each_of_its_first_values():
    source = Captioned()
    reader = Each(source, 'text', 2).open()
    assert len(reader) == 6 and reader.labels == {'kind': ('x',)}
    rows = reader.read(range(6))
    assert [row['text'] for row in rows] == ['a', 'b', 'd', 'e', 'f', 'g']
    assert [int(row['image'][0, 0, 0]) for row in rows] == [0, 0, 1, 1, 2, 2]
    assert source.opened[0].reads == [0, 1, 2]  # each once
    assert [row['text'] for row in reader.read([3, 0, 3])] == ['e', 'a', 'e']
    assert reader.fingerprint != Each(source, 'text', 1).open().fingerprint != source.open().fingerprint


@pytest.mark.parametrize('cache', [True, False])
def test_batches_of_it(cache):
    words = Words(tuple('abcdefg'), 1)
    data = Data(Each(Captioned(), 'text', 2), (Image(size=4), words), cache=cache)
    batches = list(eval_batches(data, batch_size=4))
    ids = np.concatenate([batch['text'][batch['weight'] > 0] for batch in batches])
    assert [words.decode(row) for row in ids] == ['a', 'b', 'd', 'e', 'f', 'g']


def test_what_cannot_be_is_told():
    with pytest.raises(UserError, match="example 1 has 2 of 'text', fewer than count=3"):
        Each(Captioned(), 'text', 3).open().read([0, 3])
    with pytest.raises(UserError, match="no 'txt'; they have image, text; did you mean 'text'"):
        Each(Captioned(), 'txt', 1).open().read([0])
    with pytest.raises(UserError, match=r'Each.count is 0'):
        Each(Captioned(), 'text', 0)
    with pytest.raises(UserError, match="'text' is str; it takes a list"):
        Each(Each(Captioned(), 'text', 1), 'text', 1).open().read([0])
