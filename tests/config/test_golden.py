"""Dumps that earlier versions wrote go on loading, and presets change only on purpose.

After a change that is meant: python -m tests.config.test_golden
"""

import json
from pathlib import Path

import pytest

from mmjax import config
from mmjax.experiment import Experiment
from mmjax.train.files import write_json

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / 'golden'
PRESETS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))


def preset(name: str) -> Experiment:
    return config.load_file(str(ROOT / 'configs' / f'{name}.py'), kind=Experiment)


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_is_what_it_was(name):
    golden = json.loads((GOLDEN / f'{name}.json').read_text())
    assert config.diff(golden, config.dump(preset(name))) == []


@pytest.mark.parametrize('path', sorted(GOLDEN.glob('*.json')), ids=lambda path: path.stem)
def test_a_golden_dump_loads(path):
    golden = json.loads(path.read_text())
    loaded = config.load(golden)
    assert isinstance(loaded, Experiment)
    assert config.load(config.dump(loaded)) == loaded


if __name__ == '__main__':
    for name in PRESETS:
        write_json(GOLDEN / f'{name}.json', config.dump(preset(name)))
