"""The committed plans: what they promise, and that today's reader counts the committed program as they say."""

import gzip
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from mmjax.plan import analysis, search, single
from mmjax.plan.collectives import collectives
from mmjax.plan.hlo import parse
from mmjax.plan.parts import COMPILERS, rows_of, total, under
from mmjax.plan.program import Compiled, OutOfMemory
from mmjax.plan.rollup import rolled_up
from mmjax.plan.told import lines
from mmjax.plan.topologies import parse_topology
from mmjax.sharding import MESH_AXES
from mmjax.sharding.candidates import written
from mmjax.train.prepare import prepare
from tests.plan import texts
from tests.train import toy

ROOT = Path(__file__).parents[2] / 'experiments' / 'scale'
PLANS = {
    file.stem: plan for file in sorted(ROOT.glob('*.json')) if 'topology' in (plan := json.loads(file.read_text()))
}


# Of each model at the size of a pod, and of those that were measured; then what was searched.
NAMES = {
    'llama2_7b_v5p_4x4x4',
    'llama2_7b_none_v5p_4x4x4',
    'b0_4_v5e_8x8',
    'b1_4_v5e_16x16',
    'b3_v5e_16x16',
    'b3_h100_8x8',
    *(f'b8_v5p_{slice}' for slice in ('4x4x4', '8x8x8', '16x20x28')),
    'b8_experts_v5p_8x8x8',
    'b8_long_v5p_8x8x8',
    'b30_v5p_8x8x8',
    'llama2_70b_v5p_8x8x8',
    'llama2_70b_host_v6e_16x16',
    'llama3_8b_v6e_16x16',
    *(f'b8_search_v5p_{slice}' for slice in ('8x8x8', '16x20x28')),
    'b3_search_v5e_16x16',
    'b1_4_search_v5e_16x16',
    'b8_scaling_v5p_8x8x8',
    'llama2_7b_dots_v5p_4x4x4',
}


def test_each_is_of_a_slice_that_exists():
    assert PLANS.keys() >= NAMES
    for name, plan in PLANS.items():
        assert name.endswith(plan['topology'].replace(':', '_')), name
        assert parse_topology(plan['topology'], slices=plan['slices']).devices == plan['devices']
        assert plan['fits'] == ('missing_gib' not in plan)
        assert plan['fits'] or name == 'llama2_70b_host_v6e_16x16', name


@pytest.fixture(scope='module')
def keys_today():
    """The keys of a plan for a platform, by whether it fits and a clock is known: of a step that is not compiled."""
    experiment = toy.experiment(batch_size=32)
    prepared = prepare(experiment, run=None, devices=jax.devices()[:8])
    lowered = SimpleNamespace(as_text=lambda: '')
    time = SimpleNamespace(total=0.0, seconds={})

    def of(topology, *, fits):
        text = texts.read('gpu' if topology.generation.platform == 'gpu' else 'splash')
        outcome = Compiled(1, 1, 1, 1, 1, 0, 0.0, text) if fits else OutOfMemory(2**40, 1, 0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(single, 'trace', lambda *_: single.Traced(prepared, lowered))
            patch.setattr(single, 'find', lambda _: outcome)
            patch.setattr(single, '_versions', lambda _: {'jax': '', COMPILERS[topology.generation.platform]: ''})
            patch.setattr(analysis, 'links_of', lambda *_: None)
            patch.setattr(analysis.links, 'seconds', lambda *_: time)
            return own(single.plan(experiment, topology).result)

    return of


def own(plan):
    """Without what depends on the program, on the clone, and on what else was asked for."""
    others = ('collective', 'compiler_options/', 'calibration/', 'search/', 'scaling/', 'remark', 'commit')
    return {name for name in plan if not name.startswith(others)}


@pytest.mark.parametrize('name', sorted(NAMES | PLANS.keys()))
def test_each_has_what_a_plan_has_today(name, keys_today):
    plan = PLANS[name]
    topology = parse_topology(plan['topology'], slices=plan['slices'])
    assert own(plan) == keys_today(topology, fits=plan['fits'])
    assert lines(plan)[0]


def sent_gb(plan):
    return sum(x for name, x in plan.items() if name.startswith('collective_gb/'))


def test_131072_tokens_with_images_among_them_fit():
    plan = PLANS['b8_long_v5p_8x8x8']
    assert plan['fits'] and plan['held_gib'] < plan['limit_gib'] and plan['mesh/sequence'] == 16
    assert plan['tokens_per_device'] * plan['devices'] / plan['batch_size'] == 131_072
    assert 0.9 < plan['kernel_share'] <= 1  # that device reads most which has the end of the text


def test_a_batch_of_32768_pairs_fits():
    plan = PLANS['b1_4_v5e_16x16']
    assert plan['fits'] and plan['batch_size'] == 32_768 and plan['devices'] == 256
    assert plan['seconds/compute'] > 0 and sent_gb(plan) > 0


def test_of_64_gpus_memory_and_collectives_are_told_and_no_time():
    plan = PLANS['b3_h100_8x8']
    assert plan['fits'] and plan['devices'] == 64 and plan['held_gib'] >= plan['peak_gib'] > plan['argument_gib'] > 0
    assert sent_gb(plan) > 0 and not any('seconds' in name for name in plan if name != 'compile_seconds')


@pytest.mark.parametrize('name', sorted(name for name in NAMES if '_search_' in name))
def test_what_a_search_found(name):
    plan = PLANS[name]
    rows = list(rows_of(plan, 'search'))
    times = [row['seconds'] for row in rows if row['fits']]
    assert times == sorted(times) and times[0] == pytest.approx(total(plan)) and rows[0]['fits']
    assert all(row['seconds'] == pytest.approx(total(row)) for row in rows if row['fits'])
    assert any(row['what'] == 'as it stands' or not row['changes'] for row in rows)
    assert written(under(plan, 'mesh')) == rows[0]['mesh']
    counted = plan['search/considered'] - plan['search/refused'] - plan['search/pruned']
    assert 0 < counted <= search.QUICK and plan['search/compiled'] <= search.QUICK + search.FINALISTS + 1


def test_a_step_of_llama_2_7b_against_its_peer():
    """MaxText's, counted alike and at the compiler's defaults: 5.53 GiB and 1.272 s."""
    plan = PLANS['llama2_7b_v5p_4x4x4']
    assert plan['parameters'] == 6_738_415_616 and plan['tokens_per_device'] == 8192
    assert plan['peak_gib'] <= 5.3 and plan['compute_seconds'] <= 1.15
    # Two thirds of the model's FLOPs and a half of them again are the least with all layers computed twice.
    assert plan['dot_flops'] >= 0.943 * 459e12 * 0.9


@pytest.mark.parametrize('topology', ['4x4x4', '8x8x8', '16x20x28'])
def test_an_8b_model_sends_little_more_than_it_must(topology):
    """From 64 chips to 8,960, by rings: parameters in bfloat16 twice to every chip of a replica, their gradients once
    from it, and the parts of these over replicas (the bound of `mmjax/plan/scaling.py`).
    """
    plan = PLANS[f'b8_v5p_{topology}']
    size, parts, replicas = 2 * plan['parameters'], plan['mesh/fsdp'], plan['mesh/data']
    least = 3 * size * (parts - 1) / parts + 2 * size / parts * (replicas - 1) / replicas
    assert plan['tokens_per_device'] == 8192 and sent_gb(plan) * 1e9 <= 1.1 * least


def test_an_8b_model_from_16_chips_to_the_largest_slice():
    rows = list(rows_of(PLANS['b8_scaling_v5p_8x8x8'], 'scaling'))
    assert [row['devices'] for row in rows] == [16, 64, 512, 4096, 8960] and all(row['fits'] for row in rows)
    assert all(row['batch_size'] == 2 * row['devices'] for row in rows)
    # Of 64, cut over all of them, libtpu sums whole gradients where it could leave each chip its part.
    assert all(row['within'] <= 1.1 for row in rows if row['devices'] != 64)


@pytest.mark.parametrize('text', sorted(ROOT.glob('*.txt.gz')), ids=lambda text: text.name)
def test_the_committed_program_is_counted_as_it_says(text):
    plan = PLANS[text.name.removesuffix('.txt.gz')]
    module = parse(gzip.decompress(text.read_bytes()).decode())
    work = rolled_up(module)
    assert (work.cycles, work.dot_flops, work.unknown) == (plan['cycles'], plan['dot_flops'], plan['unknown_cycles'])
    assert not work.unresolved
    sent = Counter()
    for one in collectives(module, {axis: plan[f'mesh/{axis}'] for axis in MESH_AXES}):
        sent[f'collective_gb/{one.kind}'] += one.wire_bytes / 1e9
    assert dict(sent) == pytest.approx({name: x for name, x in plan.items() if name.startswith('collective_gb/')})
