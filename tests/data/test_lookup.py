"""Questions that name their image by its row: what arrives, and that each image of a batch is read once."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from mmjax.data import Lookup, Reader, Source
from mmjax.errors import UserError


@dataclass(frozen=True)
class Rows(Source):
    rows: tuple = ()
    name: str = ''
    reads: list = field(default_factory=list, compare=False)

    def open(self):
        return RowsReader(self)


class RowsReader(Reader):
    def __init__(self, source):
        self.source, self.fingerprint, self.labels = source, source.name, {source.name: ('a', 'b')}

    def __len__(self):
        return len(self.source.rows)

    def read(self, rows):
        self.source.reads.extend(rows)
        return [dict(self.source.rows[row]) for row in rows]


QUESTIONS = Rows(tuple({'text': f'q{n}', 'image': np.int64(n % 3)} for n in range(7)), 'questions')


def images():
    return Rows(tuple({'image': bytes([n]), 'text': 'never'} for n in range(3)), 'images')


def test_a_row_number_becomes_what_stands_there():
    there = images()
    reader = Lookup(QUESTIONS, there).open()
    assert len(reader) == 7 and reader.labels == {'questions': ('a', 'b'), 'images': ('a', 'b')}
    rows = reader.read([6, 0, 1, 3])
    assert rows == [{'text': f'q{n}', 'image': bytes([n % 3])} for n in (6, 0, 1, 3)]
    assert there.reads == [0, 1]  # rows 0, 3 and 6 have one image, which is read once
    assert reader.fingerprint == 'questions/image/images'


def test_what_stands_nowhere_is_told():
    with pytest.raises(UserError, match=r"'image' of an example is .*3.*, no row number of a source of 3"):
        Lookup(Rows(({'image': np.int64(3)},)), images()).open().read([0])
    with pytest.raises(UserError, match='no row number of a source of 3'):
        Lookup(Rows(({'image': b'bytes'},)), images()).open().read([0])
    with pytest.raises(UserError, match="an example has no 'photo'; it has text, image"):
        Lookup(QUESTIONS, images(), 'photo').open().read([0])
