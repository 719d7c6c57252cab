"""The local launcher: what each process is given, what becomes of its output, and how a group ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mmjax.cli.restarts import kept_up_alone
from mmjax.distributed import local
from mmjax.distributed.local import count_gpus, environments, kept_up, launch, main
from mmjax.errors import UserError


def of(number):
    return [os.environ | {'MMJAX_PROCESS': str(i)} for i in range(number)]


def run(script, number=2, **kwargs):
    started = time.monotonic()
    return launch(['sh', '-c', script], of(number), **kwargs), time.monotonic() - started


def test_output_of_the_others_is_marked(capfd):
    assert run('echo out $MMJAX_PROCESS; echo err $MMJAX_PROCESS >&2', 3)[0] == 0
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ['[1] out 1', '[2] out 2', 'out 0']
    assert sorted(err.splitlines()) == ['[1] err 1', '[2] err 2', 'err 0']


def test_all_end_when_one_fails_and_its_code_counts():
    code, seconds = run('[ $MMJAX_PROCESS = 1 ] && exit 7; exec sleep 60', 3, grace=0.1)
    assert code == 7 and seconds < 10
    code, seconds = run('trap "" TERM; [ $MMJAX_PROCESS = 1 ] && kill -9 $$; sleep 60 & wait; sleep 60', grace=0.1)
    assert code == 128 + 9 and seconds < 10  # those that do not listen are killed


def test_one_that_is_done_leaves_the_others_in_peace():
    assert run('[ $MMJAX_PROCESS = 1 ] && exit 0; sleep 0.3; exit 3', grace=0.1)[0] == 3


def test_a_signal_reaches_all(tmp_path):
    script = f'trap "touch {tmp_path}/told$MMJAX_PROCESS; exit 130" INT; touch {tmp_path}/up$MMJAX_PROCESS; '
    code = (
        'import os, sys; from mmjax.distributed.local import launch; '
        'own = [os.environ | {"MMJAX_PROCESS": str(i)} for i in range(2)]; '
        f'sys.exit(launch(["sh", "-c", {script + "while :; do sleep 0.05; done"!r}], own))'
    )
    path = os.pathsep.join(['.', *sys.path])
    process = subprocess.Popen([sys.executable, '-c', code], env=os.environ | {'PYTHONPATH': path})
    until = time.monotonic() + 30
    while not all((tmp_path / f'up{i}').exists() for i in (0, 1)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert all((tmp_path / f'told{i}').exists() for i in (0, 1))


def test_virtual_devices_take_the_place_of_those_that_were_asked_for_before():
    before = {'XLA_FLAGS': '--xla_force_host_platform_device_count=8 --xla_gpu_deterministic_ops=true', 'HOME': '/h'}
    first, second = environments(processes=2, devices=4, gpus=0, port=99, environ=before)
    assert first | {'MMJAX_PROCESS': '1'} == second
    assert second == {
        'HOME': '/h',
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': '--xla_gpu_deterministic_ops=true --xla_force_host_platform_device_count=4',
        'MMJAX_COORDINATOR': 'localhost:99',
        'MMJAX_PROCESSES': '2',
        'MMJAX_PROCESS': '1',
    }


def test_one_process_a_gpu():
    group = environments(processes=None, devices=None, gpus=2, port=99, environ={})
    assert [own['CUDA_VISIBLE_DEVICES'] for own in group] == ['0', '1']
    assert 'JAX_PLATFORMS' not in group[0] and group[0]['MMJAX_PROCESSES'] == '2'
    group = environments(processes=2, devices=None, gpus=3, port=99, environ={'CUDA_VISIBLE_DEVICES': '4,6,7'})
    assert [own['CUDA_VISIBLE_DEVICES'] for own in group] == ['4', '6']
    assert count_gpus({'CUDA_VISIBLE_DEVICES': '4,6,7'}) == 3 and count_gpus({'CUDA_VISIBLE_DEVICES': ''}) == 0


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'devices': None}, 'shows no GPU; say how many'),
        ({'processes': 0}, '--processes: 0 is below 1'),
        ({'devices': -1}, '--devices: -1 is below 1'),
        ({'devices': None, 'gpus': 2, 'processes': 4}, '--processes: 4, one a GPU, but there are 2 GPUs'),
    ],
)
def test_what_cannot_be_started_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        environments(**({'processes': 2, 'devices': 2, 'gpus': 0, 'port': 99} | changes))


def test_the_command_line(capsys):
    assert main(['--processes', '2', '--devices', '1', '--dry-run', '--', 'train', 'x.py', '--steps', '3']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.endswith('-m mmjax.cli train x.py --steps 3') for line in lines)
    assert "MMJAX_PROCESS='1'" in lines[1]
    assert main(['--devices', '1']) == 2
    assert main(['--devises', '1', '--', 'train']) == 2
    assert 'nothing to run' in capsys.readouterr().err


def test_what_dies_is_started_again(capsys):
    def ends(*codes):
        left = list(codes)
        return lambda: left.pop(0)

    assert kept_up(ends(137, 1, 0), restarts=5) == 0
    assert capsys.readouterr().err.count('starting again') == 2
    assert kept_up(ends(1, 137, 0), restarts=1) == 137  # that often and not more
    for code in (0, 2, 130, 143):
        assert kept_up(ends(code), restarts=5) == code


@pytest.mark.parametrize('given', [['--restarts', '3'], ['--restarts=3']])
def test_a_supervised_command_is_the_same_without_its_flag(given, monkeypatch):
    asked = []
    monkeypatch.setattr(local, 'launch', lambda command, environments: asked.append(command[3:]) or 0)
    assert kept_up_alone(['train', 'x.py', *given, '--steps', '3'], restarts=3) == 0
    assert asked == [['train', 'x.py', '--steps', '3']]
