"""Run directories in an object store: a whole run with its checkpoints, going on, damage, and whose the run is."""

import dataclasses
import json
import os
import threading
import time

import fsspec
import numpy as np
import pytest

from mmjax.data import Shards
from mmjax.errors import UserError
from mmjax.experiment import Checkpoint
from mmjax.storage import Spool, create, files_below, filesystem, path_of, write_bytes
from mmjax.train import lock
from mmjax.train.checkpoint import Checkpoints, Damaged, steps_in
from mmjax.train.compare import compare
from mmjax.train.run import train
from tests import object_store
from tests.archives import TOY_FIELDS, write_toy
from tests.train import toy

STATE = {'a': np.arange(6.0).reshape(2, 3), 'b': np.float32(7)}


def run_of(**changes):
    settings = {'steps': 8, 'checkpoint': Checkpoint(every=2, keep=3)}
    return toy.experiment(**(settings | changes))


def damage(name):
    """Halves an object."""
    content = object_store.get(name)
    object_store.put(name, content[: len(content) // 2])


def test_the_store_of_these_tests_has_neither_rename_nor_append(bucket):
    path = path_of(f'{bucket}/a')
    path.write_text('x')
    with pytest.raises(NotImplementedError):
        path.rename(path_of(f'{bucket}/b'))
    with pytest.raises(NotImplementedError):
        path.open('a')
    assert not path_of(f'{bucket}/empty').exists()


def test_what_others_write_is_seen_at_once(bucket):
    """A listing that is kept, as gcsfs keeps them, would hide it."""
    object_store.put('bucket/run/a/x', b'')
    path = path_of(f'{bucket}/run')
    assert [file.name for file in path.iterdir()] == ['a'] and not (path / 'b').exists()
    object_store.put('bucket/run/b', b'')  # by another process
    object_store.delete('bucket/run/a/x')
    assert (path / 'b').exists() and not (path / 'a' / 'x').exists()
    assert [file.name for file in path.iterdir()] == ['b'] == files_below(path)
    fs, _ = filesystem(f'{bucket}/run')
    assert fs.ls('bucket/run', detail=False) == ['bucket/run/b']
    object_store.put('bucket/run/c', b'')
    assert fs.exists('bucket/run/c') and len(fs.ls('bucket/run')) == 2


def test_a_run_in_a_store_is_trained_damaged_and_gone_on_with(bucket, tmp_path, monkeypatch):
    """Its data are shards there, its data directory is there. It goes on from the newest whole checkpoint, and the
    steps that it repeats have the rows that they had.
    """
    monkeypatch.setenv('MMJAX_DATA', f'{bucket}/data')
    write_toy(tmp_path / 'set')
    for path in (tmp_path / 'set').iterdir():
        object_store.put(f'bucket/data/set/{path.name}', path.read_bytes())
    data = dataclasses.replace(toy.experiment().data, source=Shards('set/{0..3}.tar', TOY_FIELDS))
    run = f'{bucket}/runs/toy'
    train(run_of(data=data, steps=5), workdir=run, report=False)
    assert len([name for name in object_store.names('bucket/data/shards/') if name.endswith('.npz')]) == 4
    assert steps_in(path_of(run) / 'checkpoints') == [2, 4, 5]
    rows = object_store.get('bucket/runs/toy/metrics.jsonl')
    (written,) = object_store.names('bucket/runs/toy/checkpoints/5/state/d/')
    damage(written)
    results = train(run_of(data=data, steps=6), workdir=run)
    assert steps_in(path_of(run) / 'checkpoints') == [2, 4, 6]
    assert [path.name for path in (path_of(run) / 'damaged').iterdir()] == ['5']
    again = object_store.get('bucket/runs/toy/metrics.jsonl')
    assert again.startswith(rows) and len(again.splitlines()) == 6
    assert json.loads(object_store.get('bucket/runs/toy/results.json')) == results
    assert b'</html>' in object_store.get('bucket/runs/toy/report.html')
    held = {name.split('/')[3] for name in object_store.names('bucket/runs/toy/')} - {'checkpoints', 'damaged', 'seals'}
    files = {'config.json', 'manifest.json', 'metrics.jsonl', 'timing.jsonl', 'results.json', 'report.html'}
    assert held == {*files, 'predictions'}
    assert compare(run, run) == {}


@pytest.fixture(params=['disk', 'store'])
def checkpoints(request, tmp_path):
    directory = tmp_path / 'run' / 'checkpoints'
    if request.param == 'store':
        directory = path_of(f'{request.getfixturevalue("bucket")}/run/checkpoints')
    return directory


def test_damage_is_found_put_aside_and_written_over(checkpoints):
    """Of either kind of directory; what does not fit is no damage."""
    made = Checkpoints(checkpoints, keep=2)
    for step in (1, 2, 3):
        made.save(step, STATE, about={})
    made.wait()
    assert made.steps == [2, 3]
    for path in (checkpoints / '3' / 'state' / 'd').iterdir():
        path.unlink()
    like = _abstract(STATE)
    with pytest.raises(UserError, match='checkpoint 2 does not fit') as told:
        made.restore(2, {**like, 'b': like['a']})
    assert not isinstance(told.value, Damaged)
    with pytest.raises(Damaged, match=r'checkpoints/3: is damaged') as told:
        made.restore(3, like)
    made.put_aside(3, reason=str(told.value))
    assert made.steps == [2] == steps_in(checkpoints)
    assert 'is damaged' in (checkpoints.parent / 'damaged' / '3').read_text()
    np.testing.assert_array_equal(made.restore(2, like)['a'], STATE['a'])
    made.save(3, STATE, about={})
    made.wait()
    assert made.steps == [2, 3] == steps_in(checkpoints)
    assert not (checkpoints.parent / 'damaged' / '3').exists()
    np.testing.assert_array_equal(made.restore(3, like)['b'], STATE['b'])
    made.close()


def test_what_a_kill_left_half_written_is_no_step(bucket):
    """The objects of a step without the one that commits it: not read, and removed at the next start."""
    directory = path_of(f'{bucket}/run/checkpoints')
    made = Checkpoints(directory, keep=3)
    for step in (1, 2):
        made.save(step, STATE, about={})
    made.close()
    object_store.delete('bucket/run/checkpoints/2/commit_success.txt')
    assert steps_in(directory) == [1]
    again = Checkpoints(directory, keep=3)
    assert again.steps == [1]
    again.save(2, STATE, about={})
    again.close()
    assert steps_in(directory) == [1, 2]


def test_other_stores_are_told_before_anything_is_written():
    with pytest.raises(UserError, match='install the extra `s3`'):
        path_of('s3://bucket/run')
    with pytest.raises(UserError, match='nothing here reads ftp://'):
        path_of('ftp://bucket/run')


def test_a_store_that_takes_no_checkpoints_is_refused_before_anything_is_written(bucket):
    """The same objects by another name."""

    class S3(object_store.Objects):
        protocol = ('s3',)

        @classmethod
        def _strip_protocol(cls, path):
            return os.fspath(path).removeprefix('s3://').rstrip('/')

    fsspec.register_implementation('s3', S3, clobber=True)
    with pytest.raises(UserError, match=r's3://bucket/run: a run is on a disk or in gs://'):
        train(run_of(), workdir='s3://bucket/run', report=False)
    assert object_store.names() == []
    with pytest.raises(UserError, match='is what Orbax writes to'):
        Checkpoints('s3://bucket/run/checkpoints', keep=1)


def test_rows_are_spooled_here_and_brought_whole(bucket):
    run = path_of(f'{bucket}/run')
    write_bytes(run / 'rows', b'1\n')
    spool = Spool(run, begun=('rows', 'missing'))
    with (spool.directory / 'rows').open('a') as file:
        file.write('2\n')
    (spool.directory / 'board').mkdir()
    (spool.directory / 'board' / 'events').write_bytes(b'x')
    assert object_store.get('bucket/run/rows') == b'1\n'
    spool.sync()
    assert object_store.get('bucket/run/rows') == b'1\n2\n'
    assert object_store.get('bucket/run/board/events') == b'x'
    before = object_store.generation('bucket/run/rows')
    spool.close()
    assert object_store.generation('bucket/run/rows') == before  # what has not changed is not sent again
    assert not spool.directory.exists()


def test_only_one_makes_an_object(bucket):
    path, made = path_of(f'{bucket}/x'), []
    threads = [threading.Thread(target=lambda n=n: made.append(create(path, str(n).encode()))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(lock, 'BEAT', 0.05)
    monkeypatch.setattr(lock, 'LAPSES', 0.6)


def test_a_living_owner_keeps_the_run(bucket, hasty):
    run = path_of(f'{bucket}/run')
    with lock.locked(run):
        with pytest.raises(UserError, match='another process trains in it'), lock.locked(run):
            pass
        assert json.loads(object_store.get('bucket/run/lock'))['process'] == os.getpid()
    assert not object_store.names('bucket/run/lock')
    with lock.locked(run):
        pass


@pytest.mark.parametrize('other', [{'host': 'elsewhere'}, {'boot': 'of a machine of the same name'}, {}])
def test_the_run_of_a_dead_owner_is_taken_over(bucket, hasty, other):
    """On another machine after a time without a sign of life; on this one at once, its process being gone."""
    with lock.locked(path_of(f'{bucket}/run')):
        ours = json.loads(object_store.get('bucket/run/lock'))
    dead = ours | {'owner': 'x', 'process': 2**22 + 1} | other
    object_store.put('bucket/run/lock', json.dumps(dead).encode())
    began = time.monotonic()
    with lock.locked(path_of(f'{bucket}/run')):
        waited = time.monotonic() - began
        assert json.loads(object_store.get('bucket/run/lock'))['owner'] != 'x'
    assert (waited > 0.6) == bool(other)


def test_an_owner_that_was_cut_off_stops(bucket, hasty):
    with pytest.raises(UserError, match='was taken over'), lock.locked(path_of(f'{bucket}/run')):
        object_store.put('bucket/run/lock', b'{"owner": "another"}')
        time.sleep(30)
    assert json.loads(object_store.get('bucket/run/lock')) == {'owner': 'another'}


def _abstract(state):
    import jax

    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return {k: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype, sharding=sharding) for k, x in state.items()}
