"""Which processes form a group, by the environment alone."""

import os
import socket
import subprocess
import sys

import pytest

from mmjax.cli import main
from mmjax.distributed.group import group, shared
from mmjax.distributed.join import join, settings
from mmjax.errors import UserError


def given(coordinator='', processes='', process=''):
    return {'MMJAX_COORDINATOR': coordinator, 'MMJAX_PROCESSES': processes, 'MMJAX_PROCESS': process}


def test_three_variables_make_a_group():
    found = settings(given('node-0:8476', '4', '3'))
    assert found == {'coordinator_address': 'node-0:8476', 'num_processes': 4, 'process_id': 3}
    assert settings(given()) is None and settings({}) is None
    assert settings(given(processes='1')) == {} == settings(given('a:1', '1', '0'))


@pytest.mark.parametrize(
    'values, message',
    [
        (('node-0:8476', '', ''), 'MMJAX_COORDINATOR without MMJAX_PROCESSES and MMJAX_PROCESS; give all three'),
        (('', '4', '1'), 'without MMJAX_COORDINATOR; give all three'),
        (('node-0', '4', '1'), "MMJAX_COORDINATOR: 'node-0' is no HOST:PORT"),
        (('node-0:', '4', '1'), 'is no HOST:PORT'),
        (('node-0:1', '4', '4'), 'MMJAX_PROCESS: 4 is not below MMJAX_PROCESSES, 4; the first process is 0'),
        (('node-0:1', 'four', '1'), "MMJAX_PROCESSES: 'four' is no whole number"),
        (('node-0:1', '4', '-1'), "MMJAX_PROCESS: '-1' is no whole number"),
        (('node-0:1', '0', '0'), 'MMJAX_PROCESS: 0 is not below'),
    ],
)
def test_what_is_no_group_is_told(values, message):
    with pytest.raises(UserError, match=message):
        settings(given(*values))


def flags(coordinator=None, processes=None, process=None):
    said = given(coordinator, processes, process)
    return {name: value for name, value in said.items() if value is not None}


def test_flags_count_before_variables():
    everything = {'coordinator_address': 'node-1:1', 'num_processes': 4, 'process_id': 3}
    assert settings({}, flags=flags('node-1:1', '4', '3')) == everything
    assert settings(given('node-0:1', '2', '0'), flags=flags('node-1:1', '4', '3')) == everything
    assert settings(given('node-1:1', '4', '0'), flags=flags(process='3')) == everything
    assert (
        settings(given('node-0:1', '2', '0'), flags=flags(processes='1')) == {} == settings({}, flags=flags(None, '1'))
    )
    assert settings({}, flags={}) is None


@pytest.mark.parametrize(
    'values, message',
    [
        (('node-0:1', None, None), '^--coordinator without --processes and --process; give all three'),
        (('node-0', '4', '1'), "^--coordinator: 'node-0' is no HOST:PORT"),
        (('node-0:1', '4', '4'), '^--process: 4 is not below --processes, 4'),
        (('node-0:1', 'four', '1'), "^--processes: 'four' is no whole number"),
    ],
)
def test_flags_that_are_no_group_are_told_by_their_names(values, message, capsys):
    with pytest.raises(UserError, match=message):
        settings({}, flags=flags(*values))
    names = ('--coordinator', '--processes', '--process')
    said = [arg for name, value in zip(names, values, strict=True) if value for arg in (name, value)]
    for verb in (['train', 'config.py'], ['eval', 'run']):
        assert main([*verb, *said]) == 2
        assert f'mmjax: error: {message[1:]}' in capsys.readouterr().err


def test_a_variable_that_a_flag_does_not_go_with_is_told_by_its_own_name():
    with pytest.raises(UserError, match=r'^--process: 4 is not below MMJAX_PROCESSES, 2'):
        settings(given('node-0:1', '2', '0'), flags=flags(process='4'))


def test_one_process_alone_starts_nothing():
    from jax._src import distributed

    with group() as first:
        assert first and shared(lambda: (1, 2)) == (1, 2)
    join(environ={'SLURM_NTASKS': '1'})
    assert distributed.global_state.client is None


def test_a_coordinator_that_is_not_there_is_told_in_time():
    """In a process of its own, which it ends."""
    with socket.socket() as taken:  # bound and deaf
        taken.bind(('localhost', 0))
        where = f'localhost:{taken.getsockname()[1]}'
        done = subprocess.run(
            [sys.executable, '-c', 'from mmjax.distributed.join import join; join(timeout=1)'],
            env=os.environ | given(where, '2', '1') | {'PYTHONPATH': os.pathsep.join(['.', *sys.path])},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f'mmjax: error: 2 processes were to meet at {where} within 1 s, and did not' in done.stderr
