"""Dumps that earlier versions wrote go on loading, and presets change only on purpose. Of a preset with stages the
first two are kept, NAME.STAGE.json.

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


def presets() -> dict[str, Experiment]:
    found = {}
    for path in sorted((ROOT / 'configs').glob('*.py')):
        made = config.load_stages(str(path), kind=Experiment)
        found |= {f'{path.stem}.{x.name}': x for x in made[:2]} if isinstance(made, tuple) else {path.stem: made}
    return found


PRESETS = presets()


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_is_what_it_was(name):
    golden = json.loads((GOLDEN / f'{name}.json').read_text())
    assert config.diff(golden, config.dump(PRESETS[name])) == []


@pytest.mark.parametrize('path', sorted(GOLDEN.glob('*.json')), ids=lambda path: path.stem)
def test_a_golden_dump_loads(path):
    golden = json.loads(path.read_text())
    loaded = config.load(golden)
    assert isinstance(loaded, Experiment)
    assert config.load(config.dump(loaded)) == loaded


if __name__ == '__main__':
    for name in PRESETS:
        write_json(GOLDEN / f'{name}.json', config.dump(PRESETS[name]))
