import os
import subprocess
import sys
from pathlib import Path

from mmjax.data.prepare import own_builders

PREPARE = Path(__file__).parents[2] / 'scripts/prepare'


def prepare(*arguments, **environment):
    return subprocess.run(
        [PREPARE, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {'MMJAX_PYTHON': sys.executable} | environment,
        timeout=120,
        check=False,
    )


def test_help():
    done = prepare('--help')
    assert done.returncode == 0
    assert 'usage: scripts/prepare NAME' in done.stdout and ' '.join(own_builders()) in done.stdout


def test_wrong_usage_is_told_in_two_lines():
    for arguments in ((), ('easy_vqa', 'mnist'), ('--data',)):
        done = prepare(*arguments)
        assert done.returncode == 2
        assert 'usage: scripts/prepare NAME' in done.stderr and len(done.stderr.splitlines()) == 2


def test_a_built_in_set_is_prepared_by_its_builder(tmp_path):
    done = prepare('fashion_questions', MMJAX_DATA=str(tmp_path), MMJAX_FASHION_MNIST=str(tmp_path / 'nowhere'))
    assert done.returncode == 2
    assert 'apt-get install dataset-fashion-mnist' in done.stderr and 'Traceback' not in done.stderr
    (tmp_path / 'file').write_text('')
    done = prepare('easy_vqa/official', MMJAX_DATA=str(tmp_path / 'file'))
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'set MMJAX_DATA to a directory' in done.stderr
