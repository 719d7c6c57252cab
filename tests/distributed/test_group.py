"""A real group of two processes with two devices each: killed, resumed, and held against one process with eight."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mmjax.train.run import train
from tests.distributed import toy_group

ROOT = Path(__file__).parents[2]
GPU_FLAGS = '--xla_gpu_triton_gemm_any=true --xla_gpu_enable_latency_hiding_scheduler=true'
CACHE = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.05'}  # the second group compiles nothing


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float


def local(*args, **env):
    """Runs scripts/launch/local with two processes of two devices; XLA must know the flags that GPUs are given."""
    started = time.monotonic()
    done = subprocess.run(
        [ROOT / 'scripts/launch/local', '--processes', '2', '--devices', '2', '--', *map(str, args)],
        env=os.environ
        | {
            'MMJAX_PYTHON': sys.executable,
            'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {GPU_FLAGS}',
        }
        | CACHE
        | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """One process; a group of which one is killed; and that group, started again."""
    base = tmp_path_factory.mktemp('group')
    train(toy_group.experiment(), workdir=str(base / 'one'), report=False)
    command = ('train', 'tests/distributed/toy_group.py', '--workdir', base / 'two')
    killed = local(*command, **{toy_group.DIES: str(base / 'two/checkpoints/3')})
    left = {path.name for path in (base / 'two').iterdir()}
    return base, killed, left, local(*command, '--json', base / 'two.json')


def rows(run):
    return [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]


def test_a_group_that_loses_a_process_ends(runs):
    _, killed, left, _ = runs
    assert killed.code == 128 + 9, killed.err  # as a shell says it of the process that was killed
    assert 'results.json' not in left and 'checkpoints' in left


def test_the_same_command_goes_on_from_the_checkpoint(runs):
    _, killed, _, resumed = runs
    assert killed.code == 128 + 9 and resumed.code == 0, resumed.err
    assert 'resuming at step 3 of 6' in resumed.err and '4 cpu device(s)' in resumed.err


def test_a_group_is_the_run_of_one_process(runs):
    base, *_ = runs
    one, two = rows(base / 'one'), rows(base / 'two')
    assert [row['step'] for row in two] == [row['step'] for row in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours.get('loss/rows') == theirs.get('loss/rows')  # the same examples
        assert ours == pytest.approx(theirs, rel=1e-5)
    one, two = (dict(np.load(base / run / 'predictions/test.npz')) for run in ('one', 'two'))
    np.testing.assert_array_equal(two['index'], one['index'])
    np.testing.assert_array_equal(two['predicted'], one['predicted'])
    results = [json.loads((base / run / 'results.json').read_text()) for run in ('one', 'two')]
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert json.loads((base / 'two.json').read_text()) == results[1]
    manifest = json.loads((base / 'two/manifest.json').read_text())
    assert manifest['device'] == {'kind': 'cpu', 'count': 4, 'processes': 2}


def test_a_group_takes_the_checkpoint_before_a_damaged_one(runs, tmp_path):
    """All of it, though each process reads its part of the files alone."""
    base, *_ = runs
    run = shutil.copytree(base / 'two', tmp_path / 'two')
    (run / 'results.json').unlink()
    largest = max((path for path in (run / 'checkpoints/6').rglob('*') if path.is_file()), key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    again = local('train', 'tests/distributed/toy_group.py', '--workdir', run)
    assert again.code == 0, again.err
    assert again.err.count('checkpoints/6: is damaged') == 1 and 'resuming at step 3 of 6' in again.err
    assert (run / 'metrics.jsonl').read_bytes() == (base / 'two/metrics.jsonl').read_bytes()
    assert json.loads((run / 'results.json').read_text()) == json.loads((base / 'two/results.json').read_text())


def test_one_process_alone_speaks(runs):
    _, _, _, resumed = runs
    assert resumed.out.count('test/accuracy') == 1 and resumed.err.count('report: ') == 1
    others = ''.join(line for line in (resumed.out + resumed.err).splitlines() if line.startswith('[1]'))
    assert not [
        word for word in ('resuming', 'loss', 'accuracy', 'report') if word in others
    ]  # the libraries may speak


def test_processes_without_a_common_directory_are_told(tmp_path):
    """Before they train: the first checkpoint would wait for files that are on another machine."""
    for process in '01':
        (tmp_path / process).mkdir()
    done = local(
        'train', ROOT / 'tests/distributed/toy_group.py', '--workdir', 'run', **{toy_group.APART: str(tmp_path)}
    )
    assert done.code == 2 and 'Traceback' not in done.err
    assert done.err.count('0/run: process 1 does not see what process 0 wrote there; use gs://') == 1
    assert not (tmp_path / '0/run/manifest.json').exists() and not (tmp_path / '1/run').exists()


def test_a_mistake_of_all_is_told_once(tmp_path):
    done = local('train', 'tests/distributed/toy_group.py', '--workdir', tmp_path / 'run', '--precision', 'half')
    assert done.code == 2
    assert done.err.count("precision: unknown 'half'") == 1 and 'Traceback' not in done.err
    assert not (tmp_path / 'run').exists()
