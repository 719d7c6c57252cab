import dataclasses
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from mmjax import config
from mmjax.data import Bpe, Data, Item, Reader, Source, eval_batches
from mmjax.data.bpe import train_bpe
from mmjax.data.builders.emoji import entries
from mmjax.data.tokenizer import CUT, FIRST
from mmjax.errors import UserError


@dataclass(frozen=True)
class Names(Source):
    """Names of emoji in fourteen languages, a list a row."""

    version: str = '1'

    def open(self) -> Reader:
        return NameReader(self.version)


class NameReader(Reader):
    def __init__(self, version):
        self.labels, self.fingerprint = {}, f'names {version}'

    def __len__(self):
        return len(NAMES)

    def read(self, rows):
        return [{'text': list(NAMES[row]), 'number': row} for row in rows]


NAMES = [entry.names for entry in entries()[::4]]
TEXTS = [name for names in NAMES for name in names]


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """A data directory with a vocabulary, and its tokenizer."""
    home, patch = tmp_path_factory.mktemp('data'), pytest.MonkeyPatch()
    patch.setenv('MMJAX_DATA', str(home))
    bpe = Bpe('tokenizers/names.json', sha256='', size=1000, length=64)
    bpe = dataclasses.replace(bpe, sha256=train_bpe({'train': Names().open()}, bpe, field='text'))
    yield bpe
    patch.undo()


def encode(bpe, text):
    return bpe({'text': text})['text']


def test_names_in_fourteen_languages_come_back_exactly(learned):
    lengths = []
    for text in TEXTS:
        ids = encode(learned, text)
        assert ids.dtype == np.int32 and ids.shape == (64,) and ids.max() < learned.size and 1 not in ids
        assert learned.decode(ids) == text
        lengths.append((ids > 0).sum())
    assert sum(lengths) < 0.5 * sum(len(text.encode()) for text in TEXTS)


@given(text=st.text(max_size=20))
def test_any_text_comes_back_exactly(learned, text):
    assert learned.decode(encode(dataclasses.replace(learned, length=200), text)) == text


def test_ids_are_those_of_the_library(learned):
    tokenizer = Tokenizer.from_str(json.dumps(json.loads(learned.path.read_text())['tokenizer']))
    tokenizer.decoder = decoders.ByteLevel()
    for text in TEXTS[::97]:
        expected = tokenizer.encode(text).ids
        ids = encode(learned, text)
        assert ids[ids > 0].tolist() == [i + FIRST for i in expected]
        assert tokenizer.decode(expected) == learned.decode(ids)


def test_what_is_absent_or_cut(learned, monkeypatch):
    monkeypatch.delitem(CUT, ('text', 2), raising=False)  # as if no tokenizer had been cut before
    absent = learned({'text': None})
    assert not absent['text'].any() and not absent['text/present']
    short = dataclasses.replace(learned, length=2)
    with pytest.warns(UserWarning, match="a 'text' of .* tokens was cut to length=2"):
        ids = encode(short, '日本語の文字')
    assert '日本語の文字'.startswith(short.decode(ids))
    assert learned.decode(encode(learned, 'a\ud800b')) == 'a?b'
    with pytest.raises(UserError, match="Bpe: 'text' is list; it takes a text"):
        learned({'text': ['a']})


def test_the_file_says_what_it_was_learned_from_and_is_the_same_each_time(learned):
    told = json.loads(learned.path.read_text())
    assert told['data'] == {'train': 'names 1'} and told['field'] == 'text' and told['texts'] == len(TEXTS)
    assert train_bpe({'train': Names().open()}, learned, field='text') == learned.sha256
    with pytest.raises(UserError, match='is there and is another vocabulary'):
        train_bpe({'train': Names('2').open()}, learned, field='text')


def test_another_vocabulary_is_told_when_data_are_read(learned):
    other = dataclasses.replace(learned, file='tokenizers/other.json')
    train_bpe({'train': Names('2').open()}, other, field='text')
    with pytest.raises(UserError, match=r'other.json is the vocabulary of another run: its sha256 is \w{64}'):
        next(eval_batches(Data(Names(), (Item('text'), other)), batch_size=4))
    with pytest.raises(UserError, match=r'none.json: No such file.*scripts/train_tokenizer CONFIG'):
        encode(dataclasses.replace(learned, file='none.json'), 'a')
    with pytest.raises(UserError, match=r'Bpe.size is 500, but .* has 1000 ids; set it to 1000'):
        encode(dataclasses.replace(learned, size=500), 'a')


def test_it_is_a_config_and_travels_to_workers(learned):
    assert config.load(config.dump(learned)) == learned
    encode(learned, 'open now')
    assert pickle.loads(pickle.dumps(learned)).decode(encode(learned, 'a b')) == 'a b'


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: Bpe('x.json', '', size=257, length=4), 'Bpe.size is 257.* alone are 258'),
        (lambda: Bpe('x.json', '', size=300, length=0), 'Bpe.length is 0'),
        (lambda: learn_from('texts'), r"'train' has no field 'texts' \(it has text, number\)"),
        (lambda: learn_from('number'), "'number' of 'train' holds int, no text"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError, match=message):
        make()


def learn_from(field):
    train_bpe({'train': Names().open()}, Bpe('new.json', '', size=300, length=4), field=field)
