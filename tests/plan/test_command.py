"""`mmjax plan` as a whole."""

import fcntl
import gzip
import json

import jax
import pytest

from mmjax.cli import main
from mmjax.plan import command, gpu, libtpu, report, single
from mmjax.plan.parts import total
from mmjax.plan.told import lines
from mmjax.plan.topologies import parse_topology
from tests.plan.planner import needs_libtpu, plan

CONFIG = """
from dataclasses import replace
from tests.train import toy

def experiment():
    return toy.experiment(batch_size=32)

def absurd():
    from mmjax.encoders.text import TokenEncoder
    small = toy.experiment(batch_size=32)
    encoders = small.model.encoders | {'text': TokenEncoder(vocabulary=1 << 28, width=16, depth=0)}
    return replace(small, model=replace(small.model, encoders=encoders))

def staged():
    return toy.experiment(name='first'), toy.experiment(name='second')
"""

RESULT = {
    'fits': True,
    'topology': 'v5e:2x2',
    'slices': 1,
    'devices': 4,
    'mesh/data': 4,
    'mesh/sequence': 1,
    'batch_size': 32,
    'parameters': 1000,
    'tokens_per_device': 2048.0,
    'model_flops': 4e12,
    'limit_gib': 15.75,
    'peak_gib': 5.24,
    'argument_gib': 1.157,
    'temp_gib': 4.17,
    'held_gib': 5.327,
    'host_gib': 0.0,
    'kernels': 0,
    'other_kernels': 0,
    'other_kernel_seconds': 0.0,
    'roofline_seconds': 1.0,
    'compile_seconds': 3.0,
    'jax': '0.12',
    'libtpu': '0.0.52',
}


MISSED = {name: x for name, x in RESULT.items() if not name.endswith('_gib')}
MISSED |= {'fits': False, 'limit_gib': 15.75, 'need_gib': 23.36, 'missing_gib': 7.61}


def test_the_verdict_comes_first():
    assert lines(RESULT)[0] == 'v5e:2x2: fits: peak 5.24 of 15.75 GiB a device'
    gaps = lines(RESULT | {'held_gib': 6.0})[0]
    assert gaps == 'v5e:2x2: fits: peak 5.24 of 15.75 GiB a device; takes 6.00 with the gaps between its buffers'
    assert lines(MISSED)[0] == 'v5e:2x2: does not fit: needs 23.36 GiB a device, 7.61 more than 15.75'


LINKS = {
    f'collectives/{kind}/{axes}/{what}': x
    for i, (kind, axes) in enumerate([*[('all-gather', f'x{i}') for i in range(7)], ('all-reduce', 'data+fsdp')])
    for what, x in (('count', 3), ('out_gb', 1.0), ('wire_gb', 1.0), ('seconds', 0.5 + i))
}
TIMED = RESULT | LINKS
TIMED |= {'seconds/compute': 3.0, 'seconds/attention': 0.5, 'seconds/links': 32.0, 'compute_seconds': 2.0}
TIMED |= {'cycles': 100, 'cycles/matmul': 75, 'cycles/fusion': 25, 'kernels': 4, 'kernel_fraction': 0.5}
TIMED |= {'kernel_share': 0.61, 'other_kernels': 2, 'other_kernels_without_flops': 1, 'other_kernel_seconds': 1.0}
TIMED |= {'unrecognised_kernels': 0, 'unknown_cycles': 0, 'unresolved_loops': 0, 'conditionals': 0}


def test_what_a_time_is_made_of():
    told = '\n'.join(lines(TIMED))
    assert '4 attention kernels 0.50 s by a model (50% of peak, 61% of all pairs of a query and a key)' in told
    assert '2 other kernels 1.00 s by their FLOPs and bytes (1 by their bytes alone)' in told
    assert '35.50 s: cycles + other kernels + attention + links' in told
    assert 'recognised' not in told and 'conditionals' not in told and 'host' not in told.replace('on the host', '')
    cut = '\n'.join(lines(TIMED | {'mesh/sequence': 4}))
    assert '61% of all pairs of a query and a key on the device that reads most)' in cut
    dense = '\n'.join(lines(TIMED | {'kernel_share': 1.0, 'unrecognised_kernels': 6, 'conditionals': 2}))
    assert 'every query with every key' in dense and 'all branches of 2 conditionals' in dense
    assert '6 kernels are called attention and not recognised' in dense
    assert lines(TIMED | {'host_gib': 2.0, 'compiler_options/room': 1})[-1].count('with room=1') == 1
    assert '\n'.join(lines(TIMED | {'host_gib': 2.0})).count('traffic to the host') == 2


def test_what_is_sent_is_told_by_kind_and_axes_the_slowest_first():
    sent = '\n'.join(lines(TIMED)).partition('  send  ')[2].partition('  sum ')[0].splitlines()
    assert sent[0] == '8.00 GB, 32.00 s on the links by a model, one after another'
    assert sent[1].strip() == 'all-reduce over data and fsdp: 3, 1.00 GB, 7.50 s'
    assert [line.split()[2] for line in sent[2:-1]] == ['x6:', 'x5:', 'x4:', 'x3:', 'x2:'] and len(sent) == 8
    assert sent[-1].strip() == '2 more: 2.00 GB'


def test_times_by_kind_add_up_to_the_sum():
    kinds = report._by_kind(TIMED)
    assert kinds['matmul'] == 1.5 and kinds['fusion'] == 0.5 and kinds['all-reduce (model)'] == 7.5
    assert sum(kinds.values()) == pytest.approx(total(TIMED))
    no_clock = {name: x for name, x in TIMED.items() if name != 'compute_seconds'} | {'roofline_seconds': 2.0}
    assert sum(report._by_kind(no_clock).values()) == pytest.approx(total(TIMED))


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    return str(tmp_path / 'config.py')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--topology', 'v5e:3x3'], 'no slice v5e:3x3 exists'),
        ([], '--topology'),
        (['--topology', 'v5e:2x2', '--slice', '2'], "did you mean '--slices'"),
        (['--topology', 'v5e:2x2', '--stage', 'x'], 'no stages'),
        (['--topology', 'v5e:2x2', '--text', '/nowhere/x.gz'], '--text'),
        (['--topology', 'v5e:2x2', '--report', '/nowhere/x.html'], '--report'),
        (['--topology', 'v5e:2x2', '--search', '--text', 'x.gz'], 'compile several'),
        (['--topology', 'v5e:2x2', '--search', '--scaling'], '--search first'),
        (['--topology', 'v5e:2x2', '--batches', '8'], 'add --search'),
        (['--topology', 'v5e:2x2', '--search', '--batches', '8,many'], 'as in 512,1024'),
        (['--topology', 'v5e', '--scaling', '--slices', '4'], 'leave it out'),
        (['--topology', 'v5q', '--scaling'], "did you mean 'v5"),
        (['--topology', 'h100', '--scaling'], 'it is for TPU'),
    ],
)
def test_mistakes_are_told_in_a_line(config, arguments, said, capsys):
    assert main(['plan', config, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1


def test_what_cannot_run_on_the_chips_is_told(config, monkeypatch, capsys):
    monkeypatch.setattr(single, 'devices_of', lambda _: jax.devices()[:4])
    for change, said in (
        (['--mesh.fsdp', '3'], "mesh: the axes {'data': -1, 'fsdp': 3} need 3 devices"),
        (['--batch-size', '30'], 'batch_size: 30 does not divide by 4'),
    ):
        assert main(['plan', config, '--topology', 'v5e:2x2', *change]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count('\n') == 1


def test_a_text_that_is_not_there_is_told(config, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, 'plan', lambda *_: single.Planned(MISSED, '', False))
    assert main(['plan', config, '--topology', 'v5e:2x2', '--text', str(tmp_path / 'x.gz')]) == 0
    assert 'x.gz is not written' in capsys.readouterr().err and not (tmp_path / 'x.gz').exists()


def test_a_stage_has_to_be_named(config, capsys):
    assert main(['plan', f'{config}:staged', '--topology', 'v5e:2x2']) == 2
    assert 'there are first, second' in capsys.readouterr().err
    assert main(['plan', f'{config}:staged', '--topology', 'v5e:2x2', '--stage', 'secnd']) == 2
    assert "did you mean 'second'" in capsys.readouterr().err


def test_without_libtpu_it_says_what_to_install(config, monkeypatch, capsys):
    monkeypatch.setattr(libtpu.importlib.util, 'find_spec', lambda name: None)
    assert main(['plan', config, '--topology', 'v5e:2x2']) == 2
    error = capsys.readouterr().err
    assert "pip install 'jax[tpu]==" in error and 'scripts/mmjax plan' in error


def test_without_cuda_it_says_what_to_install(config, monkeypatch, capsys):
    for missing in ('jax_plugins.xla_cuda13', 'nvidia'):
        monkeypatch.setattr(
            gpu, '_locations', lambda package, missing=missing: [] if package == missing else ['/nowhere']
        )
        monkeypatch.setattr(gpu, 'CUDA', ())
        assert main(['plan', config, '--topology', 'h100:8x8']) == 2
        error = capsys.readouterr().err
        assert 'pip install jax-cuda13-plugin==' in error and 'nvidia-cuda-nvcc' in error


def test_two_plans_at_once(config, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(libtpu.importlib.util, 'find_spec', lambda name: True)
    monkeypatch.setattr(libtpu, 'lock_file', lambda: tmp_path / 'lock')
    libtpu._claim.cache_clear()
    with (tmp_path / 'lock').open('w') as other:
        other.write('4711\n')
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(['plan', config, '--topology', 'v5e:2x2']) == 2
    assert 'process 4711 is planning on this machine' in capsys.readouterr().err


@needs_libtpu
def test_a_small_step_fits_and_an_absurd_one_misses(config, tmp_path):
    files = {kind: str(tmp_path / f'x.{kind}') for kind in ('json', 'gz', 'html')}
    done = plan(
        config, '--topology', 'v5e:2x2', '--json', files['json'], '--text', files['gz'], '--report', files['html']
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('v5e:2x2: fits: peak')
    result = json.loads((tmp_path / 'x.json').read_text())
    limit = parse_topology('v5e:2x2').generation.hbm_gib
    assert result['fits'] and 0 < result['peak_gib'] < 0.1 < result['limit_gib'] == limit
    assert result['mesh/data'] == result['devices'] == 4
    assert (tmp_path / 'x.html').read_text().count('data:image/svg+xml') == 2
    assert (
        result['seconds/compute'] == result['compute_seconds'] + result['other_kernel_seconds'] and 'commit' in result
    )
    assert result['cycles'] > 0 and result['compute_seconds'] > 0 and result['seconds/links'] > 0
    # Data parallel: every device has the sum of all gradients, in float32.
    assert result['collectives/all-reduce/data/out_gb'] == pytest.approx(4e-9 * result['parameters'], rel=0.02)
    assert 'ENTRY' in gzip.decompress((tmp_path / 'x.gz').read_bytes()).decode()

    done = plan(f'{config}:absurd', '--topology', 'v5e:2x2', '--json', str(tmp_path / 'y.json'))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / 'y.json').read_text())
    # Parameters, two moments and a moving average of 2**28 x 16 in float32: 16 GiB each.
    assert not result['fits'] and result['need_gib'] > 4 * 16 and result['limit_gib'] == limit
    assert result['missing_gib'] == pytest.approx(result['need_gib'] - limit)
