"""Config files: how they are imported, and what a bad one is told."""

import re
import sys

import pytest

from mmjax import config
from mmjax.config.files import name_of
from mmjax.errors import UserError
from tests.parts import Settings


def write(folder, text: str, *, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


MINE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    size: int = 3

def experiment() -> Mine:
    return Mine(size=4)
"""


@pytest.mark.parametrize(('folder', 'module'), [('configs', 'configs.file_{}'), ('else', 'file_{}')])
def test_a_config_file_can_define_classes_that_its_dump_can_name(tmp_path, monkeypatch, folder, module):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    module = module.format(folder)
    path = write(tmp_path / folder, MINE, name=f'file_{folder}.py')
    made = config.load_file(path, kind=object)
    assert made.size == 4
    assert config.dump(made)['class'] == f'{module}.Mine'
    assert config.load(config.dump(made), trust=(f'file_{folder}',)) == made
    assert type(config.load_file(path, kind=object)) is type(made)  # imported once


def test_a_path_may_name_another_function(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    path = write(tmp_path, MINE + '\n\ndef large():\n    return Mine(5), Mine(6)\n', name='sizes.py')
    assert config.load_file(f'{path}:experiment', kind=object).size == config.load_stages(path, kind=object).size == 4
    assert [stage.size for stage in config.load_stages(f'{path}:large', kind=object)] == [5, 6]
    assert (name_of(path), name_of(f'{path}:large')) == ('sizes', 'sizes-large')  # runs of both stay apart
    with pytest.raises(UserError, match=r'sizes\.py: defines no function `larger`'):
        config.load_stages(f'{path}:larger', kind=object)
    with pytest.raises(UserError, match=r'sizes\.py: large\(\) returns a tuple'):
        config.load_file(f'{path}:large', kind=Settings)


@pytest.mark.parametrize(
    ('name', 'text', 'told'),
    [
        ('a1.py', 'x = 1', 'a1.py: defines no function `experiment`; write def experiment() -> Settings'),
        ('a2.py', 'def experiment():\n    return 3', 'a2.py: experiment() returns a int; it must return a Settings'),
        ('a3.py', 'def experiment():\n\n    return x', "a3.py line 3: NameError: name 'x' is not defined"),
        ('a4.py', 'import jax\nimport jaxx', "a4.py line 2: ModuleNotFoundError: No module named 'jaxx'"),
        ('a5.py', 'x = (\n', 'a5.py line 1: SyntaxError:'),
        ('a6.txt', '', 'a6.txt: a config file is Python'),
        ('dataclasses.py', 'def experiment(): pass', "dataclasses.py: a module 'dataclasses' is loaded already"),
    ],
)
def test_a_bad_config_file_is_told_with_its_line(tmp_path, monkeypatch, name, text, told):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    path = write(tmp_path, text, name=name)
    with pytest.raises(UserError, match=re.escape(told)):
        config.load_file(path, kind=Settings)


def test_a_missing_config_file_is_told_with_the_nearest(tmp_path):
    write(tmp_path, '', name='easy_vqa.py')
    with pytest.raises(UserError, match=r"easy_vqo.py: no such config file; did you mean '.*easy_vqa.py'"):
        config.load_file(str(tmp_path / 'easy_vqo.py'), kind=Settings)
