"""The models of links and of attention kernels: what they assume, worked out by hand."""

import pytest

from mmjax.plan import hlo, kernels, links, rollup
from mmjax.plan.collectives import Collective, collectives
from tests.plan import texts


def one(axes, *, kind='all-gather', wire=1000, network=False):
    return Collective(kind, axes, 4, 1, 0, wire, network)


TORUS = links.Links(link=10.0, per_axis={'fsdp': 2, 'tensor': 1}, wraps={'fsdp': True, 'tensor': False}, network=2.0)


@pytest.mark.parametrize(
    ('collective', 'expected'),
    [
        (one(('fsdp',)), 1000 / 40),  # two dimensions of the torus, both ways round
        (one(('tensor',)), 1000 / 10),
        (one(('fsdp', 'tensor')), 1000 / 50),
        (one(('mixed',)), 1000 / 10),
        (one(('fsdp',), network=True), 1000 / 2),
    ],
)
def test_seconds_are_bytes_over_the_links_of_the_axes(collective, expected):
    assert links.seconds([collective], TORUS).total == pytest.approx(expected)


def test_seconds_add_up_by_kind_and_axes():
    time = links.seconds([one(('fsdp',)), one(('fsdp',)), one(('slices',), network=True)], TORUS)
    assert time.seconds == {
        ('all-gather', ('fsdp',)): pytest.approx(50.0),
        ('all-gather', ('slices', 'network')): pytest.approx(500.0),
    }
    assert 'model' in time.assumption
    assert 'hides behind' in time.assumption


def test_a_gib_over_a_torus_of_64():
    found = collectives(hlo.parse(texts.read('gather64')), {'x': 64})
    ring = links.Links(link=90e9, per_axis={'x': 3}, wraps={'x': True}, network=1.0)
    assert links.seconds(found, ring).total == pytest.approx((2**30 * 63 / 64) / (6 * 90e9))


def test_splash_attention_by_its_products():
    """3 layers, 2 rows of 1024 tokens and 4 heads of 128 a device; forward runs twice, layers are made again."""
    found = rollup.cycles(hlo.parse(texts.read('splash')))
    product = 2 * 2 * 4 * 1024 * 1024 * 128
    timed, others = kernels.attention(found, causal=False, peak_flops=1e12, fraction=0.5)
    assert not any(other.bytes for other in others)
    assert [(one.part, one.flops) for one in timed] == [
        ('fwd', 3 * 2 * product),
        ('fwd', 3 * 2 * product),
        ('dkv', 3 * 4 * product),
        ('dq', 3 * 3 * product),
    ]
    assert all(one.seconds == one.flops / 0.5e12 and one.label == 'model' for one in timed)
    half, _ = kernels.attention(found, causal=True, peak_flops=1e12, fraction=0.5)
    pairs = sum(1 for query in range(1024) for key in range(1024) if key // 512 <= query // 512)
    assert half[0].flops == 3 * 2 * product * pairs // 1024**2


def call(name, outputs, *, target='tpu_custom_call', queries=(32, 1024, 128), keys=(8, 4096, 128)):
    q, k = hlo.Array('bf16', queries), hlo.Array('bf16', keys)
    mask = hlo.Array('s8', (1, 8, 8))
    return rollup.CustomCall(target, name, (mask, q, k, k), (hlo.Array('bf16', queries),) * outputs, 1, 0)


def listed(*calls):
    return rollup.Rollup((), calls, 0, (), 0)


def test_fewer_heads_of_keys_and_the_fused_backward_kernel():
    timed, _ = kernels.attention(
        listed(call('a/splash_mqa_fwd/pallas_call', 1), call('a/splash_mqa_dkv_no_residuals/pallas_call', 3)),
        causal=False,
        peak_flops=1.0,
        fraction=1.0,
    )
    product = 2 * 32 * 1024 * 4096 * 128
    assert [(one.part, one.flops) for one in timed] == [('fwd', 2 * product), ('dkv_dq', 5 * product)]


def test_other_kernels_are_handed_back():
    other, buffer = call('a/my_kernel/pallas_call', 1), call('', 1, target='AllocateBuffer')
    timed, others = kernels.attention(listed(other, buffer), causal=False, peak_flops=1.0, fraction=1.0)
    assert (timed, others) == ([], [other, buffer])
