import dataclasses
import io
import itertools
import json
import pickle
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmjax import config
from mmjax.data import Data, Image, Shards, shard_files, shard_index, shard_tar, train_batches
from mmjax.data.shard_files import expand, find_shards
from mmjax.distributed import group
from mmjax.errors import UserError
from tests import object_store
from tests.archives import TOY_FIELDS, npy, write_tar, write_toy
from tests.data.conftest import png
from tests.data.streams import share
from tests.train.toy import experiment

FIELDS = {'image': 'jpg;png', 'text': 'txt', 'answer': 'cls', 'area': 'json/box/area', 'vector': 'npy'}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'home'))
    return tmp_path / 'home'


def members(number):
    """The files of an example, in an order that differs from one to the next."""
    files = {
        f'deep/dir.v2/{number:04d}.png': png(number),
        f'deep/dir.v2/{number:04d}.txt': f'Número {number}'.encode(),
        f'deep/dir.v2/{number:04d}.CLS': str(number % 3).encode(),
        f'deep/dir.v2/{number:04d}.json': json.dumps({'box': {'area': number / 2}, 'id': number}).encode(),
        f'deep/dir.v2/{number:04d}.npy': npy(np.arange(number, number + 3)),
    }
    names = list(files)
    return {name: files[name] for name in names[number % 5 :] + names[: number % 5]}


def write_set(folder, counts=(5, 0, 7, 1)):
    """Shards of so many examples, in the three formats that a tar may have; the examples are numbered through."""
    numbers = itertools.count()
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
    for shard, count in enumerate(counts):
        files = [pair for _ in range(count) for pair in members(next(numbers)).items()]
        write_tar(folder / f's-{shard:03d}.tar', files, forms[shard % 3])
    return folder


def test_rows_are_the_examples_in_the_order_of_the_shards(tmp_path):
    write_set(tmp_path / 'set')
    reader = Shards(str(tmp_path / 'set'), FIELDS).open()
    assert len(reader) == 13
    for row in (12, 0, 5, 4, 11):
        example = reader[row]
        assert example['image'] == png(row)
        assert example['text'] == f'Número {row}'
        assert example['answer'] == row % 3 and example['answer'].dtype == np.int32
        assert example['area'] == row / 2 and example['area'].dtype == np.float32
        np.testing.assert_array_equal(example['vector'], np.arange(row, row + 3))
    together = reader.read([3, 12, 3])
    assert [example['text'] for example in together] == ['Número 3', 'Número 12', 'Número 3']


def test_the_index_is_what_tarfile_reads(tmp_path):
    """Every member of every kind of name, long ones in each format included, by Python's own reading of the whole."""
    files = [
        ('a.jpg', b'1'),
        ('a.txt', b''),
        ('b', None),
        ('b/a.txt', b'2' * 511),
        ('b/a.seg.PNG', b'3' * 512),
        ('b/.hidden', b'4'),
        ('nodot', b'5'),
        ('__meta__/x.txt', b'6'),
        ('é' * 70 + '/' + 'n' * 90 + '.txt', b'7' * 513),
        ('ünï.json', b'{}'),
        ('b/dot.tar.gz', b'8'),
        ('a.txt', b'again, later: another example'),
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f'{form}.tar'
        with tarfile.open(path, 'w', format=form) as tar:
            for name, content in files:
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type = tarfile.DIRTYPE
                    tar.addfile(info)
                else:
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        expected = []
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                base = member.name.rpartition('/')[2]
                if not member.isfile() or '.' not in base or base.startswith('.') or member.name.startswith('__'):
                    continue
                key, field = re.fullmatch(r'((?:.*/)?[^./]+)\.(.*)', member.name).groups()
                if not expected or expected[-1][0] != key:
                    expected.append((key, {}))
                expected[-1][1][field.lower()] = tar.extractfile(member).read()
        _, (shard,) = find_shards(str(path))
        index, raw = shard_tar.index_tar(shard), path.read_bytes()
        found = [
            {name: raw[at : at + size] for name, (at, size) in zip(index['names'], row, strict=True) if at >= 0}
            for row in index['members']
        ]
        assert found == [fields for _, fields in expected]
        assert [len(fields) for fields in found] == [2, 2, 1, 1, 1, 1]


def write_parquet(folder, counts=(5, 9), group=2):
    numbers = itertools.count()
    folder.mkdir(parents=True)
    for shard, count in enumerate(counts):
        rows = [
            {
                'image': {'bytes': png(n), 'path': f'{n}.png'},
                'caption': f'Número {n}' if n != 3 else None,
                'label': n % 3,
                'box': [n, n + 0.5],
            }
            for n in itertools.islice(numbers, count)
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f'{shard}.parquet', row_group_size=group)
    return folder


def test_parquet_is_what_pyarrow_reads(tmp_path):
    folder = write_parquet(tmp_path / 'set')
    fields = {'image': 'image/bytes', 'text': 'caption', 'label': 'label', 'box': 'box'}
    reader = Shards(str(folder), fields).open()
    expected = pyarrow.concat_tables(pyarrow.parquet.read_table(folder / f'{i}.parquet') for i in range(2)).to_pylist()
    assert len(reader) == len(expected) == 14
    order = np.random.default_rng(0).permutation(14).tolist()
    for row, example in zip(order, reader.read(order), strict=True):
        assert example['image'] == expected[row]['image']['bytes']
        assert example['text'] == expected[row]['caption']
        assert example['label'] == expected[row]['label'] and example['label'].dtype == np.int32
        np.testing.assert_array_equal(example['box'], np.float32(expected[row]['box']))
    assert reader[3]['text'] is None


def test_row_groups_are_read_once_and_few_are_held(tmp_path, monkeypatch):
    folder = write_parquet(tmp_path / 'set', counts=(40,), group=4)
    reader = Shards(str(folder), {'label': 'label'}).open()
    read = []
    original = pyarrow.parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile,
        'read_row_group',
        lambda self, i, **arguments: read.append((i, arguments['columns'])) or original(self, i, **arguments),
    )
    assert [int(example['label']) for example in reader.read([9, 0, 1, 8, 2])] == [0, 0, 1, 2, 2]
    assert read == [(0, ['label']), (2, ['label'])]
    reader.read([3, 10])
    assert len(read) == 2
    reader.read(range(40))
    assert len(reader._rows._held) == 4


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_the_order_is_that_of_any_other_source(tmp_path, processes):
    """Global batches do not depend on who loads, and every epoch has each example once."""
    write_set(tmp_path / 'set', counts=(5, 8, 3))
    data = Data(Shards(str(tmp_path / 'set'), {'image': 'png', 'answer': 'cls'}), (Image(size=8),), cache=False)
    parts = [train_batches(data, batch_size=4, seed=3, rows=share(4, p, processes)) for p in range(processes)]
    batches = [[next(part) for _ in range(8)] for part in parts]
    for part in parts:
        part.close()
    order = np.concatenate([np.concatenate([part[b]['index'] for part in batches]) for b in range(8)])
    assert order[:16].tolist() != list(range(16))
    assert sorted(order[:16]) == sorted(order[16:]) == list(range(16))
    answers = np.concatenate([np.concatenate([part[b]['answer'] for part in batches]) for b in range(8)])
    np.testing.assert_array_equal(answers, order % 3)
    single = train_batches(data, batch_size=4, seed=3)
    np.testing.assert_array_equal(next(single)['index'], order[:4])
    single.close()


def test_patterns_name_shards(tmp_path):
    assert list(expand('a-{08..10}-{x,y}.tar')) == [f'a-{n}-{x}.tar' for n in ('08', '09', '10') for x in 'xy']
    assert list(expand('plain.tar')) == ['plain.tar']
    write_set(tmp_path / 'set')
    every = [f's-00{i}.tar' for i in range(4)]
    for paths, names in {
        'set': every,
        'set/': every,
        'set/*.tar': every,
        'set/s-{000..003}.tar': every,
        'set/s-{003,001}.tar': [every[3], every[1]],
        'set/s-002.tar': [every[2]],
    }.items():
        assert [shard.name for shard in find_shards(str(tmp_path / paths))[1]] == names


def test_relative_paths_lie_in_the_data_directory(home):
    write_set(home / 'set')
    assert len(Shards('set/s-*.tar', FIELDS).open()) == 13


def test_symbolic_links_are_followed(tmp_path):
    write_set(tmp_path / 'set', counts=(2,))
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links' / 'one.tar').symlink_to(tmp_path / 'set' / 's-000.tar')
    assert len(Shards(str(tmp_path / 'links'), FIELDS).open()) == 2


def test_an_object_store_is_read_like_a_disk(tmp_path):
    store = fsspec.filesystem('memory')
    write_set(tmp_path / 'set')
    write_parquet(tmp_path / 'parquet')
    store.put(str(tmp_path), '/bucket', recursive=True)
    try:
        local, remote = (
            Shards(f'{root}/set/s-{{000..003}}.tar', FIELDS).open() for root in (tmp_path, 'memory://bucket')
        )
        assert remote.fingerprint == local.fingerprint
        for ours, theirs in zip(remote.read(range(13)), local.read(range(13)), strict=True):
            assert ours.pop('vector').tolist() == theirs.pop('vector').tolist()
            assert ours == theirs
        table = Shards('memory://bucket/parquet/*.parquet', {'text': 'caption'}).open()
        assert [example['text'] for example in table.read([13, 0])] == ['Número 13', 'Número 0']
    finally:
        store.rm('/bucket', recursive=True)


def test_shards_are_indexed_once_and_a_new_one_alone(tmp_path, monkeypatch):
    write_set(tmp_path / 'set')
    indexed, original = [], shard_tar._members
    monkeypatch.setattr(shard_tar, '_members', lambda shard: indexed.append(shard.name) or original(shard))
    source = Shards(str(tmp_path / 'set'), FIELDS)
    first = source.open()
    first.read(range(13))
    assert sorted(indexed) == [f's-00{i}.tar' for i in range(4)]
    again = source.open()
    again.read(range(13))
    assert len(indexed) == 4 and again.fingerprint == first.fingerprint
    write_tar(tmp_path / 'set' / 's-004.tar', members(13).items())
    more = source.open()
    assert len(more) == 14 and indexed[4:] == ['s-004.tar']
    assert more.fingerprint != first.fingerprint


def test_a_lost_or_damaged_index_is_made_again(tmp_path, home):
    write_set(tmp_path / 'set')
    source = Shards(str(tmp_path / 'set'), FIELDS)
    source.open()
    for file in (home / 'shards').iterdir():
        file.write_bytes(file.read_bytes()[:20])
    assert source.open()[12]['text'] == 'Número 12'


def test_several_may_index_at_once(tmp_path, monkeypatch):
    """The lock is one of open files, so that threads stand for processes here; one of them indexes."""
    write_set(tmp_path / 'set')
    source, indexed, original = Shards(str(tmp_path / 'set'), FIELDS), [], shard_tar._members
    monkeypatch.setattr(shard_tar, '_members', lambda shard: indexed.append(shard.name) or original(shard))
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: [example['text'] for example in source.open().read(range(13))], range(4)))
    assert texts == [[f'Número {n}' for n in range(13)]] * 4
    assert len(indexed) == 4


def test_processes_share_the_indexing_of_a_common_store(tmp_path, monkeypatch, bucket):
    """Each begins at a place of its own, and takes what another has made; a reader is the same whoever made it."""
    write_set(tmp_path / 'set')
    source, indexed, original = Shards(str(tmp_path / 'set'), FIELDS), [], shard_tar._members
    alone = source.open()
    monkeypatch.setenv('MMJAX_DATA', f'{bucket}/data')
    monkeypatch.setattr(shard_index, 'AT_ONCE', 1)

    def until_killed(shard):
        if len(indexed) == 2:
            raise KeyboardInterrupt
        indexed.append(shard.name)
        return original(shard)

    monkeypatch.setattr(shard_tar, '_members', until_killed)
    monkeypatch.setattr(group, 'number_of', lambda: (1, 2))
    with pytest.raises(KeyboardInterrupt):
        source.open()
    assert indexed == ['s-002.tar', 's-003.tar']
    monkeypatch.setattr(shard_tar, '_members', lambda shard: indexed.append(shard.name) or original(shard))
    monkeypatch.setattr(group, 'number_of', lambda: (0, 2))
    first = source.open()
    assert indexed[2:] == ['s-000.tar', 's-001.tar']
    assert [name.rpartition('.')[2] for name in object_store.names('bucket/data/shards/')].count('npz') == 4
    for name in object_store.names('bucket/data/shards/'):
        if name.endswith('.json'):
            object_store.delete(name)
    for number in range(3):  # beginning elsewhere, counts are those of the shards all the same
        monkeypatch.setattr(group, 'number_of', lambda number=number: (number, 3))
        reader = source.open()
        assert reader.fingerprint == alone.fingerprint == first.fingerprint and len(reader) == 13
        texts = [example['text'] for example in reader.read(range(13))]
        assert texts == [f'Número {n}' for n in range(13)]
    assert len(indexed) == 4


class Absent(Exception):
    """As the client of a store raises them."""

    __module__ = 'aiohttp.client_exceptions'


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """A reader of a store that answers with these errors, one a time, and with what is there afterwards."""
    fs, original = fsspec.filesystem('memory'), MemoryFileSystem.cat_file
    write_set(tmp_path / 'set')
    fs.put(str(tmp_path / 'set'), '/flaky', recursive=True)
    reader = Shards('memory://flaky/*.tar', FIELDS).open()
    monkeypatch.setattr(shard_files, 'PAUSE', 0)

    def failing(*errors):
        left = list(errors)

        def cat_file(self, path, *args, **kwargs):
            if left:
                raise left.pop(0)
            return original(self, path, *args, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, 'cat_file', cat_file)
        return reader

    yield failing
    fs.rm('/flaky', recursive=True)


def test_a_store_that_fails_for_a_moment_is_asked_again(failing):
    reader = failing(TimeoutError(), Absent('server disconnected'), ConnectionResetError('by peer'))
    assert [example['text'] for example in reader.read([3, 12])] == ['Número 3', 'Número 12']


@pytest.mark.parametrize(
    ('error', 'told'),
    [
        (Absent('server disconnected'), r's-000\.tar: its store did not give it in 3 tries \(server disconnected\)'),
        (TimeoutError(), r's-000\.tar: its store did not give it in 3 tries \(TimeoutError\)'),
        (PermissionError('Forbidden'), r's-000\.tar: its store did not give it in 3 tries \(Forbidden\)'),
        (FileNotFoundError('s-000.tar'), r's-000\.tar is damaged, or has changed'),
        (OSError('no such range'), r's-000\.tar is damaged, or has changed'),
    ],
)
def test_a_store_that_cannot_be_reached_is_no_damaged_shard(failing, error, told):
    reader = failing(*[error] * 30)
    with pytest.raises(UserError, match=told):
        reader.read([3])


def test_a_range_behind_the_end_is_damage(failing):
    error = Absent('Requested range not satisfiable')
    error.code = 416
    with pytest.raises(UserError, match=r's-000\.tar is damaged, or has changed.*not satisfiable'):
        failing(error).read([3])


def test_a_store_that_cannot_be_reached_while_a_shard_is_indexed(tmp_path, monkeypatch):
    write_set(tmp_path / 'set')

    def fail(*args, **kwargs):
        raise Absent('server disconnected')

    monkeypatch.setattr(shard_tar.tarfile, 'open', fail)
    with pytest.raises(UserError, match=r'\.tar: its store did not give it \(server disconnected\)'):
        Shards(str(tmp_path / 'set'), FIELDS).open()


def test_a_store_that_takes_no_index_costs_time_alone(tmp_path, monkeypatch, capsys):
    def refuse(file, content):
        raise Absent('Forbidden')

    write_set(tmp_path / 'set')
    monkeypatch.setattr(shard_index, 'write_bytes', refuse)
    assert len(Shards(str(tmp_path / 'set'), FIELDS).open()) == 13
    assert 'the index is not kept' in capsys.readouterr().err


def test_an_unwritable_data_directory_costs_time_alone(tmp_path, monkeypatch, capsys):
    write_set(tmp_path / 'set')
    (tmp_path / 'file').write_text('no directory')
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'file'))
    assert len(Shards(str(tmp_path / 'set'), FIELDS).open()) == 13
    assert 'the index is not kept' in capsys.readouterr().err


def test_a_worker_gets_the_same_reader(tmp_path):
    write_set(tmp_path / 'set')
    reader = Shards(str(tmp_path / 'set'), FIELDS).open()
    copy = pickle.loads(pickle.dumps(reader))
    assert copy[7]['text'] == reader[7]['text'] and copy.fingerprint == reader.fingerprint
    pickled = pickle.dumps(reader)
    write_tar(tmp_path / 'set' / 's-002.tar', members(99).items())
    with pytest.raises(UserError, match=r's-002\.tar is damaged, or has changed'):
        pickle.loads(pickled)


def test_a_shard_that_changes_under_a_reader_is_told(tmp_path):
    write_set(tmp_path / 'set')
    reader = Shards(str(tmp_path / 'set'), FIELDS).open()
    path = tmp_path / 'set' / 's-002.tar'
    content = path.read_bytes()
    path.write_bytes(content[:2048])
    with pytest.raises(UserError, match=r's-002\.tar is damaged, or has changed'):
        reader.read([9])
    path.write_bytes(b'x' * len(content))
    with pytest.raises(UserError, match=r's-002\.tar is damaged.*no header'):
        reader.read([9])
    path.unlink()
    with pytest.raises(UserError, match=r's-002\.tar is damaged'):
        reader.read([9])


def test_every_truncation_of_a_tar_is_told(tmp_path):
    whole = write_tar(tmp_path / 'whole.tar', members(0).items()).read_bytes()
    end = len(whole.rstrip(b'\0')) // 512 * 512
    cuts = {0, 1, 511, 512, 700, 1024, *range(1536, end + 512, 512), end + 700}
    for cut in sorted(cuts - {len(whole)}):
        path = tmp_path / f'{cut}.tar'
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=rf'{cut}\.tar is damaged'):
            Shards(str(path), {'text': 'txt'}).open()


def test_a_flipped_header_is_told(tmp_path):
    write_set(tmp_path / 'set', counts=(3,))
    path = tmp_path / 'set' / 's-000.tar'
    content = bytearray(path.read_bytes())
    at = content.index(b'0001.', 512 * 8)
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r's-000\.tar is damaged'):
        Shards(str(tmp_path / 'set'), FIELDS).open()


def test_parquet_that_is_damaged_is_told(tmp_path):
    folder = write_parquet(tmp_path / 'set')
    content = (folder / '1.parquet').read_bytes()
    (folder / '1.parquet').write_bytes(content[:-10])
    with pytest.raises(UserError, match=r'1\.parquet is damaged'):
        Shards(str(folder), {'label': 'label'}).open()
    (folder / '1.parquet').write_bytes(content)
    reader = Shards(str(folder), {'label': 'label'}).open()
    (folder / '1.parquet').write_bytes(b'\0' * len(content))
    with pytest.raises(UserError, match=r'1\.parquet is damaged'):
        reader.read([8])


def test_a_missing_field_is_told_with_shard_and_key(tmp_path):
    files = [('k/1.jpg', b'1'), ('k/1.txt', b'1'), ('k/2.txt', b'2'), ('k/3.png', b'3'), ('k/3.txt', b'3')]
    write_tar(tmp_path / 'a.tar', files)
    with pytest.raises(UserError, match=r"'jpg;png', which the example 'k/2' of .*a\.tar does not have; .* jpg, png"):
        Shards(str(tmp_path / 'a.tar'), {'image': 'jpg;png', 'text': 'txt'}).open().read([0, 1])
    with pytest.raises(UserError, match=r"'png', which the example 'k/1' of .*a\.tar does not have"):  # nor do most
        Shards(str(tmp_path / 'a.tar'), {'image': 'png', 'text': 'txt'}).open()
    write_tar(tmp_path / 'b.tar', [pair for pair in files if '2' not in pair[0]])
    reader = Shards(str(tmp_path / 'b.tar'), {'image': 'jpg;png', 'text': 'txt'}).open()
    assert [example['image'] for example in reader.read([0, 1])] == [b'1', b'3']
    folder = write_parquet(tmp_path / 'set')
    with pytest.raises(UserError, match=r"no column 'labels'; it has .*did you mean 'label'"):
        Shards(str(folder), {'label': 'labels'}).open()
    with pytest.raises(UserError, match=r"row 0 has no 'byte'; it has bytes, path; did you mean 'bytes'"):
        Shards(str(folder), {'image': 'image/byte'}).open()[0]


@pytest.mark.parametrize(
    ('name', 'content', 'field', 'told'),
    [
        ('0.cls', b'cat', 'cls', "the member 'cls' at byte .* is no cls"),
        ('0.cls', b'3000000000', 'cls', 'is no cls'),
        ('0.json', b'{', 'json/a', 'is no json'),
        ('0.json', b'{"a": 1}', 'json', "holds a: name one, as '…/a'"),
        ('0.json', b'{"a": 3000000000}', 'json/a', 'which 32 bits do not'),
        ('0.txt', b'\xff\xfe', 'txt', 'is no txt'),
        ('0.npy', b'nothing', 'npy', 'is no npy'),
        ('0.npy', pickle.dumps([1]), 'npy', 'is no npy'),
    ],
)
def test_contents_of_another_kind_are_told(tmp_path, name, content, field, told):
    write_tar(tmp_path / 'a.tar', [(name, content)])
    with pytest.raises(UserError, match=told):
        Shards(str(tmp_path / 'a.tar'), {'x': field}).open()[0]


def test_bad_paths_are_told(tmp_path):
    write_set(tmp_path / 'set')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'x.tar.gz').write_bytes(b'')
    for paths, told in {
        'nowhere/*.tar': 'no shard at',
        'empty': 'no shard at',
        'set/s-{000..004}.tar': r"no shard at '.*s-004\.tar'",
        'set/s-{3..0}.tar': 'counts down',
        'x.tar.gz': 'ends with neither .tar nor .parquet .a compressed one',
    }.items():
        with pytest.raises(UserError, match=told):
            Shards(str(tmp_path / paths), FIELDS).open()
    with pytest.raises(UserError, match='nothing here reads nofs://'):
        Shards('nofs://bucket/*.tar', FIELDS).open()
    with pytest.raises(UserError, match='install the extra `gcs`'):
        Shards('gs://bucket/*.tar', FIELDS).open()
    write_parquet(tmp_path / 'both')
    write_tar(tmp_path / 'both' / 'a.tar', members(0).items())
    with pytest.raises(UserError, match=r'has \.tar and \.parquet'):
        Shards(str(tmp_path / 'both'), FIELDS).open()
    write_tar(tmp_path / 'twice.tar', [('a.txt', b'1'), ('a.txt', b'2')])
    with pytest.raises(UserError, match="'a' has two members 'txt'"):
        Shards(str(tmp_path / 'twice.tar'), FIELDS).open()


def test_the_batches_are_those_of_the_source_that_was_archived(tmp_path):
    """`Toy` in tar shards, to the bit; what trains on them in an object store is in tests/train/test_storage.py."""
    write_toy(tmp_path / 'set')
    toy = experiment().data
    data = dataclasses.replace(toy, source=Shards(str(tmp_path / 'set'), TOY_FIELDS))
    assert config.load(config.dump(data)) == data
    ours, theirs = (train_batches(x, batch_size=16, seed=0, start=3) for x in (data, toy))
    for _ in range(7):
        batch, expected = next(ours), next(theirs)
        for key in expected.keys() | batch.keys():
            np.testing.assert_array_equal(batch[key], expected[key])
    ours.close()
    theirs.close()
