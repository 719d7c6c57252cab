"""Other sizes of a slice, measured steps, and the page: by hand and by property."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.plan import calibration, scaling
from mmjax.plan.parts import SECONDS
from mmjax.plan.report import write_report
from mmjax.plan.single import Planned
from mmjax.plan.tables import scaling_table
from mmjax.plan.told import lines
from mmjax.plan.topologies import GENERATIONS, parse_topology
from mmjax.sharding import MeshShape
from mmjax.sharding.candidates import abstract, fixed_at, grown
from mmjax.sharding.presets import Auto, Fsdp
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import model_parameters
from tests.plan.test_command import MISSED, RESULT
from tests.train import toy


@pytest.fixture(scope='module')
def boxed():
    experiment = toy.experiment()
    return jax.eval_shape(lambda: model_parameters(experiment, shapes_of_batch(experiment)))


def test_a_handful_of_real_slices():
    assert [step.name for step in scaling.sizes(GENERATIONS['v5p'])] == [
        'v5p:2x2x4',
        'v5p:4x4x4',
        'v5p:8x8x8',
        'v5p:16x16x16',
        'v5p:16x20x28',
    ]
    assert [step.name for step in scaling.sizes(GENERATIONS['v5e'])] == ['v5e:4x4', 'v5e:8x8', 'v5e:16x16']


def test_replicas_grow_and_cuts_stay(boxed):
    assert grown(MeshShape(data=-1, fsdp=4), boxed, devices=64) == MeshShape(data=16, fsdp=4)
    assert grown(MeshShape(data=2, fsdp=4, tensor=2), boxed, devices=64) == MeshShape(data=8, fsdp=4, tensor=2)
    assert grown(MeshShape(data=-1, fsdp=12), boxed, devices=64).fsdp == 8  # 12 does not divide 64
    # Width 16 is the most that can be cut, whatever is there.
    assert grown(Fsdp(), boxed, devices=8960) == MeshShape(data=560, fsdp=16)
    with pytest.raises(UserError, match='mesh'):
        grown(MeshShape(tensor=3), boxed, devices=64)


def test_what_takes_the_rest_stays_as_it_is_at_the_base(boxed):
    rest = MeshShape(data=32, tensor=-1)
    cut = fixed_at(rest, 64)
    assert grown(cut, boxed, devices=64).sizes(64) == rest.sizes(64)  # the config's own
    assert grown(cut, boxed, devices=256) == MeshShape(data=128, tensor=2)
    assert fixed_at(MeshShape(data=-1, fsdp=4), 64) == MeshShape(data=-1, fsdp=4)


def test_the_least_that_is_sent(boxed):
    """By the formulas of a ring, for parameters that are all cut, and for none."""
    leaves = [
        (math.prod(leaf.unbox().shape), 'embed' in leaf.names)
        for leaf in jax.tree.leaves(boxed, is_leaf=lambda x: hasattr(x, 'names'))
    ]
    cut = sum(n for n, is_cut in leaves if is_cut)
    rest = sum(n for n, _ in leaves) - cut
    assert cut > 10 * rest > 0

    replicas = scaling.bound(boxed, abstract(MeshShape(data=8), 8), width=2)
    assert replicas == pytest.approx(2 * 2 * (cut + rest) * 7 / 8)
    sharded = scaling.bound(boxed, abstract(Fsdp(), 8), width=2)
    assert sharded == pytest.approx(3 * 2 * cut * 7 / 8 + 2 * 2 * rest * 7 / 8)
    twice = scaling.bound(boxed, abstract(Fsdp(), 8), width=2, steps=2)
    assert twice - sharded == pytest.approx(3 * 2 * cut * 7 / 8)
    both = scaling.bound(boxed, abstract(MeshShape(data=2, fsdp=4), 8), width=2)
    assert both == pytest.approx(3 * 2 * cut * 3 / 4 + 2 * 2 * cut / 4 / 2 + 2 * 2 * rest * 7 / 8)


@pytest.fixture
def compiler(monkeypatch):
    """A compiler for which only the links take longer, the more devices there are."""

    def plan(experiment, topology, *, quick=False):
        result = RESULT | {'topology': topology.name, 'accumulate': 1, 'collective_gb/all-gather': 0.001}
        times = {'seconds/compute': 1.0, 'seconds/attention': 0.5, 'seconds/links': topology.devices / 100}
        fits = experiment.batch_size == topology.devices * 2
        return Planned(result | times if fits else {'fits': False, 'need_gib': 99.0, 'accumulate': 1}, '', True)

    monkeypatch.setattr(scaling, 'plan', plan)


def test_where_the_links_become_the_limit(compiler, tmp_path):
    experiment = toy.experiment(batch_size=128, mesh=MeshShape(data=-1, fsdp=16))
    result = scaling.scaling(experiment, GENERATIONS['v5e'])
    assert result['scaling/base'] == 'v5e:8x8'
    assert [result[f'scaling/{i}/batch_size'] for i in (1, 2, 3)] == [32, 128, 512]
    assert result['scaling/3/mesh'] == 'data 16 x fsdp 16'
    assert result['scaling/limit_devices'] == 256  # 2.56 s on the links beside 1.5 s
    assert 'the links become the limit at 256 devices' in scaling_table(result)[-1]

    write_report(tmp_path / 'x.html', result, title='toy <b>')
    written = (tmp_path / 'x.html').read_text()
    assert written.count('data:image/svg+xml') == 5 and 'toy &lt;b&gt;' in written
    assert 'http' not in written.replace('http-equiv', '').split('<body')[0]
    write_report(tmp_path / 'y.html', MISSED, title='toy')
    assert (tmp_path / 'y.html').read_text().count('data:image/svg+xml') == 1


def test_a_batch_that_fits_no_size_is_told():
    with pytest.raises(UserError, match=r'from v5e:4x4 to v5e:16x16 .* batch_size: 24 does not divide by 16'):
        scaling.scaling(toy.experiment(batch_size=24), GENERATIONS['v5e'])


def test_auto_takes_the_memory_that_it_is_told(boxed):
    """Of a model whose state is 1.5 times what a device may use for it, two are needed."""
    need = 16 * sum(x.size for x in jax.tree.leaves(boxed))
    for share, fsdp in ((1.5, 2), (0.5, 1), (7.0, 8)):
        mesh = Auto().build(jax.devices(), parameters=lambda: boxed, device_bytes=round(need / share / 0.4))
        assert mesh.shape['fsdp'] == fsdp


def test_measured_over_estimated(monkeypatch, tmp_path):
    common = {'tokens_per_device': 1000.0, 'seconds/attention': 0.5, 'seconds/links': 0.25, 'jax': '', 'libtpu': ''}
    common |= {'other_kernel_seconds': 0.25, 'host_gib': 0.0}
    fast, slow = (calibration.Measured(name, 'v5p:8x8x8', tokens) for name, tokens in (('a', 250.0), ('b', 125.0)))
    result = calibration.calibrated(
        {
            fast: common | {'compute_seconds': 3.0, 'roofline_seconds': 1.0},
            slow: common | {'roofline_seconds': 3.0, 'host_gib': 2.0},
        }
    )
    assert result['a/v5p:8x8x8/measured_seconds'] == 4.0 and result['b/v5p:8x8x8/measured_seconds'] == 8.0
    assert result['cycles/factor'] == 1.0 and result['cycles/cases'] == 1
    assert result['roofline/factor'] == pytest.approx(2.0) and result['roofline/cases'] == 2
    assert result['roofline/low'] == result['roofline/high'] == 2.0

    monkeypatch.setattr(calibration, 'FILE', tmp_path / 'calibration.json')
    plan = RESULT | dict.fromkeys(SECONDS.values(), 1.0)
    assert calibration.calibration(plan) == {}
    assert 'not calibrated' in '\n'.join(lines(plan))
    calibration.write_json(calibration.FILE, result)
    told = '\n'.join(lines(plan | calibration.calibration(plan)))
    assert '3.00 s: roofline + links' in told
    steps = 'a on v5p:8x8x8, b on v5p:8x8x8 (traffic to the host not counted); none of them on v5e'
    assert f'took 2.00 times such a sum (2.00 to 2.00: {steps})' in told
    clocked = calibration.calibration(plan | {'compute_seconds': 1.0})
    assert clocked['calibration/of'] == 'a on v5p:8x8x8' and clocked['calibration/factor'] == 1.0
    on_host = '\n'.join(lines(plan | {'host_gib': 1.0}))
    assert 'traffic to the host is not counted' in on_host


def test_the_committed_calibration_is_of_committed_plans():
    known = calibration.read_json(calibration.FILE)
    plans = {one: calibration.read_json(one.file) for one in calibration.MEASURED if one.file.exists()}
    again = calibration.calibrated({one: told for one, told in plans.items() if told['fits']})
    assert known.keys() == again.keys() and plans
    numbers = [name for name, value in known.items() if isinstance(value, float)]
    np.testing.assert_allclose([known[x] for x in numbers], [again[x] for x in numbers])
    for one, told in plans.items():
        assert told['topology'] == parse_topology(one.topology).name
        assert told['tokens_per_device'] == pytest.approx(
            told['batch_size'] * {'llama3_8b': 8192}.get(one.config, 4096) / told['devices']
        )


def test_the_base_is_where_the_mesh_cuts_the_batch():
    """32 sequences, each on 16 devices, are for 512 of them and not for 32."""
    steps = scaling.sizes(GENERATIONS['v5p'])
    experiment = toy.experiment(batch_size=32, mesh=MeshShape(data=1, fsdp=-1, sequence=16))
    assert scaling._base(experiment, steps).devices == 512
    twice = dataclasses.replace(experiment, optim=dataclasses.replace(experiment.optim, accumulate=8))
    assert scaling._base(twice, steps).devices == 64
    assert scaling._base(toy.experiment(batch_size=64, mesh=Auto()), steps).devices == 64
