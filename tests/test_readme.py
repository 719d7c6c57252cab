"""What the README shows works: the design from a file outside the package, by its class path."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from mmjax import config
from mmjax.cli import main
from mmjax.experiment import Experiment
from mmjax.train.directory import load_experiment
from mmjax.train.run import train
from tests.train import toy

README = Path(__file__).parent.parent / 'README.md'


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    """The README's block, in a package of a user, in the working directory."""
    code = next(block for block in re.findall(r'```python\n(.*?)```', README.read_text(), re.S) if 'Fusion)' in block)
    (tmp_path / 'my_package').mkdir()
    (tmp_path / 'my_package' / '__init__.py').touch()
    (tmp_path / 'my_package' / 'my_module.py').write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith('my_package')]:
        del sys.modules[name]


def test_a_design_from_outside_trains_and_is_read_again(my_package):
    arguments = ['model.fusion=my_package.my_module:Shared', '--model.fusion.depth', '1', '--steps', '2']
    experiment = config.override(toy.experiment(), arguments)
    assert type(experiment.model.fusion).__module__ == 'my_package.my_module'
    train(experiment, workdir='run')
    assert load_experiment('run', trust=('tests', 'my_package')) == experiment
    with pytest.raises(Exception, match='--trust my_package'):
        load_experiment('run', trust=('tests',))


def commands():
    """What follows `scripts/mmjax train configs/…` in the README, a list of words each."""
    text = README.read_text().replace('\\\n', ' ')
    lines = [
        shlex.split(line, comments=True) for line in re.findall(r'^    (scripts/mmjax train configs/.*)$', text, re.M)
    ]
    return [words[2:] for words in lines if '--help' not in words]


@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_every_training_command_of_the_readme_is_one(my_package, words):
    file, *overrides = words
    experiment = config.load_stages(str(README.parent / file), kind=Experiment)
    if overrides:
        assert config.override(experiment, overrides) != experiment


def test_every_flag_and_verb_of_the_readme_exists(capsys):
    with pytest.raises(SystemExit, match='0'):
        main(['train', str(README.parent / 'configs' / 'easy_vqa.py'), '--help'])
    shown = capsys.readouterr().out
    for flag in ('--mesh.data', '--mesh.fsdp', '--mesh.tensor', '--steps'):
        assert flag in shown
    main(['--help'])
    verbs = capsys.readouterr().out
    for verb in set(re.findall(r'scripts/mmjax (\w+)', README.read_text())):
        assert f'\n  {verb} ' in verbs
