"""The studies of experiments/: each can show what it declares, and its quick form was seen to end in time."""

import json
from pathlib import Path

import pytest

from mmjax.config import load_file
from mmjax.study.check_quick import EXPERIMENTS, LIMIT, RESULT, asked
from mmjax.study.study import Study, quick

ROOT = Path(__file__).parents[2]
FILES = sorted(file for file in (ROOT / EXPERIMENTS).glob('*.py') if 'def study()' in file.read_text())


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_its_quick_form_ended_in_time(file):
    """`scripts/check_studies` measures it."""
    study = load_file(str(file), kind=Study, function='study')
    small = quick(study)
    small.check()
    assert len(small.arms) == 3 and len(small.rates) == 5 and not small.comparisons
    seen = json.loads((ROOT / RESULT).read_text())[file.stem]
    assert seen['ok'] and seen['seconds'] < LIMIT and not seen['dirty']
    assert seen['arms'] == asked(small)  # what was trained then is what would be today
