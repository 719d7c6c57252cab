"""The committed plans: what they promise, and that today's reader counts the committed program as they say."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from mmjax.plan.collectives import collectives
from mmjax.plan.hlo import parse
from mmjax.plan.rollup import rolled_up
from mmjax.plan.topologies import parse_topology
from mmjax.sharding import MESH_AXES

ROOT = Path(__file__).parents[2] / 'experiments' / 'scale'
PLANS = {
    file.stem: plan for file in sorted(ROOT.glob('*.json')) if 'topology' in (plan := json.loads(file.read_text()))
}


def test_each_is_of_a_slice_that_exists():
    assert 'llama2_7b_v5p_4x4x4' in PLANS
    for name, plan in PLANS.items():
        assert name.endswith(plan['topology'].replace(':', '_')), name
        assert parse_topology(plan['topology'], slices=plan['slices']).devices == plan['devices']
        assert plan['fits'] == ('missing_gib' not in plan)


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
    sent = sum(x for name, x in plan.items() if name.startswith('collective_gb/')) * 1e9
    assert plan['tokens_per_device'] == 8192 and sent <= 1.1 * least


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
