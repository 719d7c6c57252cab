"""Damage to checkpoints: found before anything is read, said, put aside, and the newest good one taken."""

import contextlib
import json
import os
import shutil

import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.experiment import Checkpoint
from mmjax.optim import AdamW, WarmupCosine
from mmjax.train.checkpoint import Checkpoints, Damaged, damaged_in, steps_in
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.resume import restore, resumed
from mmjax.train.run import train
from mmjax.train.score import evaluate
from mmjax.train.state import abstract_state, mesh_of
from tests.train import toy

EXPERIMENT = toy.experiment(
    steps=6, optim=AdamW(schedule=WarmupCosine(warmup=1), ema=0.9), checkpoint=Checkpoint(every=2, keep=3)
)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp('whole') / 'run'
    train(EXPERIMENT, workdir=str(run), report=False)
    assert steps_in(run / 'checkpoints') == [2, 4, 6]
    return run


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / 'run')


@pytest.fixture(scope='module')
def like():
    return abstract_state(EXPERIMENT, *_where())


def _where():
    batch = shapes_of_batch(EXPERIMENT)
    return batch, mesh_of(EXPERIMENT, batch)


def files(step):
    return sorted(path for path in step.rglob('*') if path.is_file())


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


DAMAGES = {
    'deleted': lambda path, _: path.unlink(),
    'emptied': lambda path, _: path.write_bytes(b''),
    'truncated': lambda path, _: path.write_bytes(path.read_bytes()[:-1]),
    'flipped': lambda path, _: flip(path, 12_345),
    'older': lambda path, older: shutil.copy(older if older.exists() else path.with_name('x'), path),
    'added': lambda path, _: path.with_name('another').write_bytes(b'x'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_to_any_file_is_found(run, damage):
    """Each file of the newest checkpoint in turn, small as it may be."""
    step, older = run / 'checkpoints' / '6', run / 'checkpoints' / '4'
    checkpoints = Checkpoints(run / 'checkpoints', keep=None)
    checkpoints.check(6)
    found = 0
    for path in files(step):
        content, before = path.read_bytes(), older / path.relative_to(step)
        if (damage in ('truncated', 'flipped') and not content) or (damage == 'older' and not before.exists()):
            continue
        if damage == 'older' and before.read_bytes() == content:
            continue
        DAMAGES[damage](path, before)
        named = 'another' if damage == 'added' else path.name
        with pytest.raises(
            Damaged, match=rf'checkpoints/6: is damaged \(.*{named} (is missing|has changed|is not its)'
        ):
            checkpoints.check(6)
        found += 1
        path.with_name('another').unlink(missing_ok=True)
        path.write_bytes(content)
    assert found >= 3
    checkpoints.check(6)
    checkpoints.close()


def test_other_numbers_are_found_without_a_seal(tmp_path):
    """A run that was killed before the seal of its newest checkpoint: no flipped bit of an array comes back as another
    number. Most of those in its data file would.
    """
    rng, wrong, state = np.random.default_rng(0), 0, {'w': np.arange(50_000, dtype=np.float32)}
    with contextlib.closing(Checkpoints(tmp_path / 'checkpoints', keep=1)) as made:
        made.save(6, state, about={})
    like = {
        'w': jax.ShapeDtypeStruct((50_000,), 'float32', sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    }
    largest = max(files(tmp_path / 'checkpoints' / '6' / 'state'), key=os.path.getsize)
    for trial in range(10):
        copy = shutil.copytree(
            tmp_path / 'checkpoints', tmp_path / str(trial) / 'checkpoints'
        )  # TensorStore has a cache
        path = copy / largest.relative_to(tmp_path / 'checkpoints')
        flip(path, int(rng.integers(8 * path.stat().st_size)))
        with contextlib.closing(Checkpoints(copy, keep=None)) as checkpoints:
            try:
                np.testing.assert_array_equal(checkpoints.restore(6, like)['w'], state['w'])
            except Damaged as damage:
                wrong += 'is damaged (other numbers in w)' in str(damage)
    assert wrong >= 5


def _numbers(state):
    return [np.asarray(x) for x in jax.tree.leaves(state)]


@pytest.mark.parametrize('lost', ['a directory', 'two files', 'all'])
def test_a_run_goes_on_from_the_newest_good_one(whole, run, lost, capfd):
    """And ends as it had ended: the same numbers, the same rows."""
    for name in ('results.json', 'predictions', 'report.html'):
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).unlink(missing_ok=True) if (run / name).is_file() else None
    if lost == 'a directory':
        shutil.rmtree(run / 'checkpoints' / '6')
    else:
        for step in ('6', '4', '2') if lost == 'all' else ('6', '4'):
            flip(max(files(run / 'checkpoints' / step / 'state'), key=os.path.getsize), 99_999)
    if lost == 'all':
        with pytest.raises(UserError, match=r'none of the checkpoints of this run can be read any more \(2, 4, 6\)'):
            train(EXPERIMENT, workdir=str(run), report=False)
        with pytest.raises(UserError, match='none of the checkpoints'):  # said again, not begun anew
            train(EXPERIMENT, workdir=str(run), report=False)
        return
    train(EXPERIMENT, workdir=str(run), report=False)
    said = capfd.readouterr().err
    assert ('checkpoint 6 is gone' if lost == 'a directory' else 'checkpoints/4: is damaged') in said
    assert f'resuming at step {4 if lost == "a directory" else 2} of 6' in said
    assert steps_in(run / 'checkpoints')[-1] == 6 and 6 not in damaged_in(run / 'checkpoints')
    assert (run / 'metrics.jsonl').read_bytes() == (whole / 'metrics.jsonl').read_bytes()
    assert json.loads((run / 'results.json').read_text()) == json.loads((whole / 'results.json').read_text())
    ours, theirs = (_numbers(restore(str(one), EXPERIMENT, *reversed(_where()))) for one in (run, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_damage_is_told_to_who_only_reads(run):
    flip(max(files(run / 'checkpoints' / '6' / 'state'), key=os.path.getsize), 7)
    with pytest.raises(UserError, match='checkpoints/6: is damaged'):
        evaluate(str(run), trust=['tests'])
    assert not damaged_in(run / 'checkpoints')


def test_another_kind_of_array_is_told_with_both_sides(run, like):
    """Orbax would turn one into the other and say nothing."""
    checkpoints = Checkpoints(run / 'checkpoints', keep=None)
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, 'bfloat16', sharding=x.sharding), like.params)
    with pytest.raises(UserError, match=r'does not fit the experiment: params/\S+ was float32\[.*\] and is bfloat16\['):
        checkpoints.restore(6, like.replace(params=half))
    with pytest.raises(UserError, match=r'ema/\S+ was float32\[.*\] and is absent'):
        checkpoints.restore(6, like.replace(ema=None))
    checkpoints.close()


def test_what_cannot_be_read_is_not_damaged_while_its_files_are_whole(run, like, monkeypatch):
    """A store that does not answer: no checkpoint is given up for it."""

    def unavailable(*_, **__):
        raise ConnectionError('503')

    checkpoints = Checkpoints(run / 'checkpoints', keep=None)
    monkeypatch.setattr(type(checkpoints._manager), 'restore', unavailable)
    with pytest.raises(UserError, match='6: cannot be read, though its files are whole: 503'):
        resumed(checkpoints, like, say=print)
    assert not damaged_in(run / 'checkpoints')
    checkpoints.close()


def test_old_seals_go_with_their_checkpoints(tmp_path):
    made = Checkpoints(tmp_path / 'checkpoints', keep=2)
    for step in (1, 2, 3, 4):
        made.save(step, {'x': np.float32(step)}, about={})
    made.close()
    assert steps_in(tmp_path / 'checkpoints') == [3, 4]
    assert {path.name for path in (tmp_path / 'seals').iterdir()} == {'3', '4'}


def test_nothing_was_saved_yet(tmp_path, like):
    made = Checkpoints(tmp_path / 'checkpoints', keep=2)
    assert resumed(made, like, say=print) is None
    made.close()
