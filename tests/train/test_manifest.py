"""Which code a run says that it is of, in checkouts made for the test."""

import shutil
import subprocess
from pathlib import Path

import pytest

import mmjax
from mmjax.errors import UserError
from mmjax.train import manifest
from mmjax.train.files import read_json, write_json


def git(where, *args):
    identity = ('-c', 'user.name=t', '-c', 'user.email=t@example.org')
    return subprocess.run(('git', '-C', where, *identity, *args), check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with a package `mmjax` of one file, which the code under test takes for its own."""
    root = tmp_path / 'clone'
    (root / 'mmjax').mkdir(parents=True)
    (root / 'mmjax' / '__init__.py').write_text('x = 1\n')
    git(tmp_path, 'init', '-q', str(root))
    git(root, 'add', '.')
    git(root, 'commit', '-qm', 'first')
    monkeypatch.setattr(mmjax, '__file__', str(root / 'mmjax' / '__init__.py'))
    return root


def test_version(checkout):
    commit = git(checkout, 'rev-parse', 'HEAD').strip()
    assert manifest.code_version() == {'commit': commit, 'dirty': False}
    (checkout / 'notes.md').write_text('words do not compute\n')
    assert manifest.code_version() == {'commit': commit, 'dirty': False}
    (checkout / 'mmjax' / 'new.py').write_text('')
    assert manifest.code_version() == {'commit': commit, 'dirty': True}


def test_someone_elses_checkout_is_not_ours(checkout):
    """An environment that lies in a checkout of another project."""
    site = checkout / '.venv' / 'mmjax'
    site.parent.mkdir()
    shutil.move(checkout / 'mmjax', site)
    mmjax.__file__ = str(site / '__init__.py')
    assert manifest.code_version() == {'commit': None, 'dirty': None}


def test_other_code(checkout, tmp_path):
    write_json(tmp_path / 'manifest.json', manifest.code_version())
    assert manifest.other_code(tmp_path) is None
    (checkout / 'README.md').write_text('new\n')
    git(checkout, 'add', '.')
    git(checkout, 'commit', '-qm', 'words')
    assert manifest.other_code(tmp_path) is None  # the package is the same
    first = read_json(tmp_path / 'manifest.json')
    (checkout / 'mmjax' / '__init__.py').write_text('x = 2\n')
    assert first['commit'] in (manifest.other_code(tmp_path) or '')
    git(checkout, 'commit', '-qam', 'another')
    assert first['commit'] in (manifest.other_code(tmp_path) or '')
    now = manifest.code_version()
    write_json(tmp_path / 'manifest.json', now | {'resumed': [{'dirty': True}]})
    assert 'not committed' in (manifest.other_code(tmp_path) or '')
    write_json(tmp_path / 'manifest.json', {'commit': None, 'dirty': None})
    assert manifest.other_code(tmp_path)


def test_json_files_that_are_none(tmp_path):
    file = tmp_path / 'a.json'
    with pytest.raises(UserError, match=r'a.json: No such file'):
        read_json(file)
    file.write_text('{"a": ')
    with pytest.raises(UserError, match=r'a.json: is no JSON'):
        read_json(file)
    file.write_text('[1]')
    with pytest.raises(UserError, match=r'a.json: holds a list, not an object'):
        read_json(file)
    write_json(file, {'a': 1})
    assert read_json(file) == {'a': 1} and [path.name for path in Path(tmp_path).iterdir()] == ['a.json']
