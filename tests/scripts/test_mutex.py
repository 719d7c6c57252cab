"""Set-ups that meet, that are killed, and that find the lock of one that was."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.scripts.machine import Clone


def wait_until(condition, *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def test_an_interrupted_setup_heals(clone: Clone):
    clone.add_python('3.12.4')
    process = clone.start('mmjax', SLOW='4')
    wait_until(lambda: clone.made('uv'))
    process.kill()  # the launcher alone: its uv goes on writing, and the next set-up must not run beside it
    process.communicate()
    assert not (clone.venv / 'bin/whole').exists() and (clone.root / '.venv.lock').exists()
    code, out, err = clone.run('mmjax')
    assert code == 0 and out.startswith('3.12.4 in')
    assert err[0].startswith('mmjax: waiting') and sum('setting up' in line for line in err) == 1
    assert len(clone.made('venv')) == 2
    assert not list(clone.root.glob('.venv.lock*'))


def test_ctrl_c_ends_the_work_and_frees_the_lock(clone: Clone):
    clone.add_python('3.12.4')
    process = clone.start('mmjax', SLOW='20')
    wait_until(lambda: clone.made('uv'))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130 and not (clone.root / '.venv.lock').exists()
    assert clone.run('mmjax')[0] == 0


def test_two_that_start_at_once_both_succeed(clone: Clone):
    clone.add_python('3.12.4')
    first, second = (clone.start('mmjax', SLOW='0.5') for _ in range(2))
    results = [process.communicate(timeout=20) for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert all(out.startswith('3.12.4 in') for out, _ in results)
    assert len(clone.made('venv')) == 1
    assert sorted('waiting for the set-up' in err for _, err in results) == [False, True]


@pytest.mark.parametrize('owner', ['dead', 'old', 'live'])
def test_a_stale_lock_is_taken_over(clone: Clone, owner: str):
    clone.add_python('3.12.4')
    host = subprocess.run(['bash', '-c', 'printf %s "$HOSTNAME"'], capture_output=True, text=True, check=True).stdout
    lock = clone.root / '.venv.lock'
    lock.mkdir()
    dead = subprocess.Popen(['true'])
    dead.wait()
    (lock / 'owner').write_text(
        {
            'dead': f'{host} {dead.pid} -{dead.pid} {int(time.time())}\n',
            'old': f'another-host 1 - {int(time.time()) - 16 * 60}\n',
            'live': f'another-host 1 - {int(time.time())}\n',
        }[owner]
    )
    process = clone.start('mmjax')
    if owner == 'live':
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.5)
        shutil.rmtree(lock)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0 and not lock.exists()
    assert ('process 1 on another-host' in err) == (owner == 'live')


def test_two_that_find_a_stale_lock_set_up_once(clone: Clone):
    clone.add_python('3.12.4')
    (clone.root / '.venv.lock').mkdir()
    (clone.root / '.venv.lock/owner').write_text('another-host 1 - 0\n')
    processes = [clone.start('mmjax', SLOW='0.3') for _ in range(4)]
    for process in processes:
        process.communicate(timeout=20)
    assert [process.returncode for process in processes] == [0] * 4
    assert len(clone.made('venv')) == 1
