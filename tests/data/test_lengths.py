import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from mmjax.data import AnyItem, Bytes, Data, Each, Examples, Item, RandomShift, Reader, Seconds, Source, Tokens
from mmjax.data.loader import open_data
from mmjax.errors import UserError

NAMES = [['a', 'bb'], ['ccc', ''], ['dddd', 'ee'], ['f', None]]
WORDS = Bytes(length=3)


@dataclass(frozen=True)
class Lists(Source):
    """Rows of two names and a sound."""

    version: str = '1'

    def open(self) -> Reader:
        return ListReader(self.version)


class ListReader(Reader):
    reads = 0

    def __init__(self, version):
        self.labels, self.fingerprint = {}, version

    def __len__(self):
        return len(NAMES)

    def read(self, rows):
        type(self).reads += len(rows)
        return [{'text': NAMES[row], 'sound': np.zeros(100 * row + 50, np.float32)} for row in rows]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    return tmp_path


def lengths(data, *measures):
    return [found.tolist() for found in open_data(data).lengths(*measures)]


@pytest.mark.parametrize('cache', [True, False])
def test_lengths_are_those_of_the_examples_after_their_transforms(cache):
    data = Data(Each(Lists(), 'text', 2), (WORDS, RandomShift('sound')), cache=cache)
    sound = Tokens(keys=(), each={'sound': 7})
    found = lengths(data, Tokens(), Examples(), Seconds(rate=100.0, key='sound'), sound, Tokens(each={'text': 10}))
    assert found[0] == [1, 2, 3, 0, 3, 2, 1, 0]  # cut to three; nothing of what is absent
    assert found[1] == [1] * 8
    assert found[2] == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5, 3.5, 3.5]
    assert found[3] == [7] * 8
    assert found[4] == [11, 12, 13, 10, 13, 12, 11, 0]


def test_they_are_recorded_once(home, monkeypatch):
    data = Data(Lists(), (Item('text'), WORDS), cache=False)
    assert lengths(data, Tokens()) == [[1, 3, 3, 1]]
    (file,) = (home / 'lengths').iterdir()
    monkeypatch.setattr(ListReader, 'reads', 0)
    assert lengths(dataclasses.replace(data, transforms=(*data.transforms, RandomShift('sound'))), Tokens())
    assert ListReader.reads == 0  # what comes after is drawn anew in each epoch and fixes no length
    file.write_bytes(file.read_bytes()[:-3])
    assert lengths(data, Tokens()) == [[1, 3, 3, 1]] and ListReader.reads == 4  # half a file is no file


@pytest.mark.parametrize(
    'other',
    [
        Data(Lists('2'), (Item('text'), WORDS)),
        Data(Lists(), (Item('text', 1), WORDS)),
        Data(Lists(), (Item('text'), Bytes(length=2))),
    ],
)
def test_other_data_and_other_transforms_have_lengths_of_their_own(home, other):
    for data in (Data(Lists(), (Item('text'), WORDS)), other):
        lengths(data, Tokens())
    assert len(list((home / 'lengths').iterdir())) == 2


def test_a_directory_that_cannot_be_written_to_costs_time_alone(home, capsys):
    (home / 'lengths').write_text('a file')
    assert lengths(Data(Lists(), (Item('text'), WORDS)), Tokens()) == [[1, 3, 3, 1]]
    assert 'lengths are not kept' in capsys.readouterr().err


def test_a_mask_says_what_is_real():
    example = {'audio': np.zeros((6, 2)), 'audio/mask': np.array([1, 1, 1, 0, 0, 0], bool)}
    assert Seconds(rate=2.0)(example) == 1.5 and Tokens(keys=('audio',))(example) == 3
    assert Seconds(rate=2.0)(example | {'audio/present': np.bool_(False)}) == 0
    assert Seconds(rate=2.0)({'audio': None}) == 0


@pytest.mark.parametrize(
    ('transforms', 'measure', 'message'),
    [
        ((AnyItem('text'), WORDS), Tokens(), r"'text' is list after the transforms that are not random.*`Each`"),
        ((Item('text'), WORDS), Tokens(keys=('txt',)), r"examples have no 'txt'.*did you mean 'text'"),
        ((Item('text'), WORDS), Tokens(keys=('sound',)), r"'sound' is float32 \[50\]: no sequence of ids"),
    ],
)
def test_what_has_no_fixed_length_is_told(transforms, measure, message):
    with pytest.raises(UserError, match=message):
        lengths(Data(Lists(), transforms), measure)


def test_a_rate_of_nothing_is_told():
    with pytest.raises(UserError, match=r'Seconds.rate is 0'):
        Seconds(rate=0.0)
