import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmjax.data import Tfds, data_dir
from mmjax.data.prepare import find, main, own_builders
from mmjax.errors import UserError

FIND = "from mmjax.data.prepare import find; print(find('fashion_questions'))"


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f'>{1 + array.ndim}i', 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data directory, and a Fashion-MNIST of 240 + 60 images."""
    files = tmp_path / 'files'
    files.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (('train', 240), ('t10k', 60)):
        write_idx(files / f'{part}-images-idx3-ubyte.gz', rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(files / f'{part}-labels-idx1-ubyte.gz', (np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setenv('MMJAX_FASHION_MNIST', str(files))
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'home'))
    return tmp_path / 'home'


def test_the_directory_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', '~/somewhere')
    assert data_dir() == Path.home() / 'somewhere'
    monkeypatch.delenv('MMJAX_DATA')
    assert data_dir() == Path.home() / '.cache/mmjax'


def test_builders_are_found_by_their_files():
    folder = Path(__file__).parents[2] / 'mmjax/data/builders'
    assert own_builders() == sorted(path.stem for path in folder.glob('[!_]*.py'))


def test_a_builder_is_run_on_first_use_and_not_again(home, capsys):
    source = Tfds('fashion_questions', 'train', {'image': 'image', 'text': 'question', 'answer': 'answer'})
    assert len(source.open()) == 220
    said = capsys.readouterr()
    assert said.err.count('mmjax: preparing fashion_questions in') == 1 and said.out == ''
    before = {path: path.stat().st_mtime_ns for path in home.rglob('*') if path.is_file()}
    assert len(source.open()) == 220
    assert 'preparing' not in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in home.rglob('*') if path.is_file()}


def test_an_interrupted_preparation_heals(home):
    root = home / 'fashion_questions'
    for leftover in ('incomplete.ABCDEF_1.0.0', '1.0.0'):
        (root / leftover).mkdir(parents=True)
        (root / leftover / 'fashion_questions-train.array_record-00000-of-00001').write_bytes(b'half')
    assert find('fashion_questions') == root / '1.0.0'
    assert [path.name for path in root.iterdir() if path.is_dir()] == ['1.0.0']
    assert len(Tfds('fashion_questions', 'test', {'answer': 'answer'}).open()) == 60


def test_two_processes_prepare_it_once(home):
    environment = os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, '-c', FIND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert {out.strip() for out, _ in ended} == {str(home / 'fashion_questions/1.0.0')}
    assert sum(err.count('mmjax: preparing') for _, err in ended) == 1


def test_a_directory_that_cannot_be_written_is_told(home, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'cannot prepare fashion_questions in .*file.*set MMJAX_DATA to a directory'):
        find('fashion_questions')


def test_an_unknown_config_is_told(home):
    with pytest.raises(
        UserError, match=r"'easy_vqa' has no config 'held'; it has official, heldout, .*; did you mean 'heldout'"
    ):
        find('easy_vqa/held')
    with pytest.raises(UserError, match="'fashion_questions' has no config 'big'; it has none"):
        find('fashion_questions/big')


def fake(home: Path, *paths: str) -> None:
    for path in paths:
        (home / path).mkdir(parents=True)
        (home / path / 'dataset_info.json').write_text('{}')


def test_the_newest_version_of_a_standard_set_is_found(home):
    fake(home, 'mnist/3.0.1', 'mnist/3.0.2', 'mnist/3.0.10')
    (home / 'mnist/incomplete.XY_4.0.0').mkdir()
    (home / 'mnist/5.0.0').mkdir()
    assert find('mnist') == home / 'mnist/3.0.10'


def test_configs_of_standard_sets(home):
    fake(home, 'coco/2014/1.0.0', 'glue/cola/2.0.0', 'glue/sst2/2.0.0')
    assert find('coco') == home / 'coco/2014/1.0.0'
    assert find('glue/sst2') == home / 'glue/sst2/2.0.0'
    with pytest.raises(UserError, match="'glue' has several configs: write glue/ and one of cola, sst2"):
        find('glue')
    with pytest.raises(UserError, match=r"no prepared config 'sst'.*did you mean 'sst2'"):
        find('glue/sst')
    (home / 'empty').mkdir()
    with pytest.raises(UserError, match='holds no prepared data; delete it and run scripts/prepare empty'):
        find('empty')


def test_the_command(home, capsys):
    assert main(['fashion_questions']) == 0
    assert capsys.readouterr().out.strip() == str(home / 'fashion_questions/1.0.0')
    assert main(['fashion_question']) == 2
    told = capsys.readouterr().err
    assert "did you mean 'fashion_questions'?" in told and len(told.splitlines()) == 1
    assert main([]) == 2
    assert f'built in: {", ".join(own_builders())}' in capsys.readouterr().err
