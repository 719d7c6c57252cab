import shutil
from pathlib import Path

import numpy as np
import pytest

from mmjax.data import Tfds
from mmjax.errors import UserError

FIELDS = {'image': 'image', 'text': 'question', 'answer': 'answer'}


@pytest.fixture
def copy(tiny, tmp_path, monkeypatch):
    """The directory of a copy of 'tiny' that may be damaged."""
    shutil.copytree(tiny.directory, tmp_path / 'tiny/1.2.0')
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    return tmp_path / 'tiny/1.2.0'


def test_features_arrive_under_the_names_given(tiny):
    fields = {'photo': 'image', 'text': 'question', 'label': 'answer', 'n': 'number', 'v': 'vector'}
    reader = Tfds('tiny', 'train', fields).open()
    assert len(reader) == tiny.train
    assert reader.labels == {'label': ('no', 'yes', 'perhaps')}
    for row, example in enumerate(reader.read(range(tiny.train))):
        expected = tiny.row(row)
        assert example.keys() == fields.keys()
        assert example['photo'] == tiny.png(row // 2)
        assert example['text'] == expected['question']
        assert reader.labels['label'][example['label']] == expected['answer'] and example['label'].dtype == np.int32
        assert example['n'] == row
        np.testing.assert_array_equal(example['v'], expected['vector'])
    assert [example['n'] for example in reader.read([5, 22, 5, 0])] == [5, 22, 5, 0]
    assert reader[7]['n'] == 7
    with pytest.raises(IndexError):
        reader[tiny.train]


def test_nested_features(tiny):
    reader = Tfds('tiny', 'train', {'captions': 'captions/text', 'ids': 'captions/id'}).open()
    for row in (0, 3):
        captions = tiny.row(row)['captions']
        assert reader[row]['captions'] == [caption['text'] for caption in captions]
        assert list(reader[row]['ids']) == [caption['id'] for caption in captions]


def test_names_with_a_slash_and_texts_that_are_declared_as_np_str(tiny):
    fields = {'id': 'image/id', 'photo': 'image/again', 'first': 'image', 'notes': 'notes/text', 'title': 'title'}
    reader = Tfds('tiny', 'train', fields).open()
    for row in (0, 5):
        expected, example = tiny.row(row), reader[row]
        assert example['id'] == 7 * row
        assert example['photo'] == example['first'] == tiny.png(row // 2)
        assert example['notes'] == [note['text'] for note in expected['notes']]
        assert example['title'] == expected['title']
    with pytest.raises(UserError, match="did you mean 'image/id'"):
        Tfds('tiny', 'train', {'id': 'image/ids'}).open()


@pytest.mark.parametrize(
    'split, numbers',
    [
        ('train[:4]', range(4)),
        ('train[10:13]', range(10, 13)),
        ('test', range(100, 107)),
        ('train[:2]+test[-2:]', [0, 1, 105, 106]),
        ('train[50%:]', range(12, 23)),
    ],
)
def test_parts_of_splits(tiny, split, numbers):
    reader = Tfds('tiny', split, {'n': 'number'}).open()
    assert [example['n'] for example in reader.read(range(len(reader)))] == list(numbers)


def test_the_fingerprint_is_that_of_the_data(tiny, copy, monkeypatch):
    def fingerprint(split='train'):
        return Tfds('tiny', split, FIELDS).open().fingerprint

    moved = fingerprint()
    assert moved != fingerprint('test') != fingerprint('train[:9]') != moved
    file = next(copy.glob('*train*-00001-of*'))
    rewrite(file, at=2, change=lambda text: text)  # another order of the fields
    assert fingerprint() == moved
    rewrite(file, at=2, change=lambda text: text.replace(b'number', b'figure'))
    assert fingerprint() != moved
    monkeypatch.setenv('MMJAX_DATA', str(tiny.home))
    assert fingerprint() == moved


def rewrite(file, *, at, change):
    """Changes the question of a record, and writes the fields of all records in the reverse order of their names."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    source = ArrayRecordDataSource([str(file)])
    records = [tf_example_pb2.Example.FromString(source[row]) for row in range(len(source))]
    text = records[at].features.feature['question'].bytes_list.value
    text[0] = change(text[0])
    writer = ArrayRecordWriter(str(file), 'group_size:1')
    for record in records:
        alone = []  # a message is the concatenation of messages with some of its fields
        for name in sorted(record.features.feature, reverse=True):
            part = tf_example_pb2.Example()
            part.features.feature[name].CopyFrom(record.features.feature[name])
            alone.append(part.SerializeToString())
        writer.write(b''.join(alone))
    writer.close()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    'source, message',
    [
        (Tfds('tiyn', 'train', FIELDS), r"'tiyn' is not prepared.*did you mean 'tiny'\?.*scripts/prepare tiyn"),
        (
            Tfds('easy_vq', 'train', FIELDS),
            r"there or built in: easy_vqa, emoji, .*, synergy, tiny, vqa_v2; did you mean 'easy_vqa'",
        ),
        (Tfds('tiny/large', 'train', FIELDS), "no prepared config 'large'.*scripts/prepare tiny/large"),
        (Tfds('tiny', 'trian', FIELDS), "no split 'trian'; it has train, test; did you mean 'train'"),
        (Tfds('tiny', 'test+trian[:5]', FIELDS), "no split 'trian'"),
        (Tfds('tiny', 'train[:1O%]', FIELDS), r"split 'train\[:1O%\]' cannot be read.*write for example"),
        (Tfds('tiny', 'train[5:5]', FIELDS), r"'train\[5:5\]' of data set 'tiny' has no examples"),
        (
            Tfds('tiny', 'train', {'text': 'qestion'}),
            r"fields\['text'\].*'qestion'.*it has answer, .*did you mean 'question'",
        ),
    ],
)
def test_wrong_names_are_told(tiny, source, message):
    with pytest.raises(UserError, match=message):
        source.open()


def shard(directory: Path) -> Path:
    return next(directory.glob('*train*-00001-of*'))


@pytest.mark.parametrize('keep', [0, 100, 0.5, -1])
def test_a_truncated_file_is_told_by_name(copy, keep):
    path = shard(copy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError) as told:
        Tfds('tiny', 'train', FIELDS).open()
    assert str(path) in str(told.value)
    assert 'delete its directory and run scripts/prepare tiny' in str(told.value)
    assert '\n' not in str(told.value)


def test_a_missing_file_is_told_by_name(copy):
    path = shard(copy)
    path.unlink()
    with pytest.raises(UserError, match=f'{path.name} is damaged'):
        Tfds('tiny', 'train', FIELDS).open()
    assert len(Tfds('tiny', 'test', FIELDS).open()) == 7


def test_a_flipped_byte_is_told_with_the_file_that_has_it(copy):
    path = shard(copy)
    flip(path, 3000)  # within the records, which come first
    with pytest.raises(UserError, match=f'{path.name} is damaged'):
        reader = Tfds('tiny', 'train', FIELDS).open()
        reader.read(range(len(reader)))


def test_damaged_metadata_is_told(copy):
    (copy / 'dataset_info.json').write_text('{"name": ')
    with pytest.raises(UserError, match=r'dataset_info.json is damaged'):
        Tfds('tiny', 'train', FIELDS).open()


def test_another_file_format_is_told(copy):
    path = copy / 'dataset_info.json'
    path.write_text(path.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(
        UserError, match=r'stored as tfrecord, not array_record; delete that directory and run scripts/p'
    ):
        Tfds('tiny', 'train', FIELDS).open()
