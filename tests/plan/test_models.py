"""The models of links and of attention kernels: what they assume, worked out by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.nn.splash import read_share
from mmjax.plan import hlo, kernels, links, rollup
from mmjax.plan.attended import every_pair
from mmjax.plan.collectives import Collective, collectives
from mmjax.types import Tokens
from tests.plan import texts

RING = np.arange(4)[:, None] * [1, 0, 0]  # 4 chips along the first side of 4x4x4


def torus(**changed):
    given = {'link': 10.0, 'chip': 30.0, 'network': 2.0, 'sides': (4, 4, 4), 'wrap': (True,) * 3, 'mesh': {'x': 4}}
    return links.Links(**given | {'places': RING} | changed)


def test_seconds_add_up_by_kind_and_axes():
    x = {'count': 1, 'bytes_out': 0, 'wire_bytes': 1000, 'groups': np.arange(4)[None]}
    within = Collective('all-gather', ('x',), 4, **x)
    between = Collective('all-gather', ('slices',), 2, **x, network=True)
    time = links.seconds([within, between, within], torus())
    assert time.seconds == {
        ('all-gather', ('x',)): pytest.approx(2 * 1000 / 20),  # both ways round
        ('all-gather', ('slices', 'network')): pytest.approx(1000 / 2),
    }
    assert time.total == pytest.approx(600)


def test_a_gib_over_a_torus_of_64():
    found = collectives(hlo.parse(texts.read('gather64')), {'x': 64})
    cube = torus(link=90e9, mesh={'x': 64}, places=np.stack(np.unravel_index(np.arange(64), (4, 4, 4)), axis=-1))
    assert links.seconds(found, cube).total == pytest.approx((2**30 * 63 / 64) / (6 * 90e9))


def test_splash_attention_by_its_products():
    """3 layers, 2 rows of 1024 tokens and 4 heads of 128 a device; forward runs twice, layers are made again."""
    found = rollup.rolled_up(hlo.parse(texts.read('splash')))
    product = 2 * 2 * 4 * 1024 * 1024 * 128
    timed, others = kernels.attention(found, share=every_pair, peak_flops=1e12, fraction=0.5)
    assert not any(other.bytes for other in others)
    assert [(one.part, one.flops) for one in timed] == [
        ('fwd', 3 * 2 * product),
        ('fwd', 3 * 2 * product),
        ('dkv', 3 * 4 * product),
        ('dq', 3 * 3 * product),
    ]
    assert all(one.seconds == one.flops / 0.5e12 and one.flops == one.dense for one in timed)
    causal = Tokens.of(jnp.zeros((1, 1024, 0)), jnp.ones((1, 1024), bool), causal=jnp.ones((1, 1024), int))
    shares = {(1024, 1024): read_share(causal)}
    half, _ = kernels.attention(found, share=lambda *size: shares[size], peak_flops=1e12, fraction=0.5)
    pairs = sum(1 for query in range(1024) for key in range(1024) if key // 512 <= query // 512)
    assert half[0].flops == 3 * 2 * product * pairs // 1024**2 and half[0].dense == timed[0].dense


def call(name, outputs, *, target='tpu_custom_call', queries=(32, 1024, 128), keys=(8, 4096, 128)):
    q, k = hlo.Array('bf16', queries), hlo.Array('bf16', keys)
    mask = hlo.Array('s8', (1, 8, 8))
    return rollup.CustomCall(target, name, (mask, q, k, k), (hlo.Array('bf16', queries),) * outputs, 1, 0, None)


def listed(*calls):
    return rollup.Rollup((), calls, 0, (), 0)


def test_fewer_heads_of_keys_and_the_fused_backward_kernel():
    timed, _ = kernels.attention(
        listed(call('a/splash_mqa_fwd/pallas_call', 1), call('a/splash_mqa_dkv_no_residuals/pallas_call', 3)),
        share=every_pair,
        peak_flops=1.0,
        fraction=1.0,
    )
    product = 2 * 32 * 1024 * 4096 * 128
    assert [(one.part, one.flops) for one in timed] == [('fwd', 2 * product), ('dkv_dq', 5 * product)]


def test_other_kernels_are_handed_back():
    other, buffer = call('a/my_kernel/pallas_call', 1), call('', 1, target='AllocateBuffer')
    timed, others = kernels.attention(listed(other, buffer), share=every_pair, peak_flops=1.0, fraction=1.0)
    assert (timed, others) == ([], [other, buffer])


def test_other_kernels_are_charged_by_flops_or_bytes():
    one = dataclasses.replace(call('a/my_kernel/pallas_call', 1), bytes=600)
    assert kernels.seconds_of(one, peak_flops=10.0, bytes_per_second=100.0) == 6.0
    assert kernels.seconds_of(dataclasses.replace(one, flops=50), peak_flops=10.0, bytes_per_second=100.0) == 6.0
    assert kernels.seconds_of(dataclasses.replace(one, flops=100), peak_flops=10.0, bytes_per_second=100.0) == 10.0


def test_attention_in_another_form_is_told():
    other = call('jit(f)/attention/x/my_attention_fwd/pallas_call', 1)
    narrow = hlo.Array('bf16', (8, 4096, 64))  # values of another width
    splash = call('a/splash_mqa_fwd/pallas_call', 1)
    splash = dataclasses.replace(splash, operands=(*splash.operands[:3], narrow))
    _, others = kernels.attention(listed(other, splash), share=every_pair, peak_flops=1.0, fraction=1.0)
    assert others == [other, splash] and all(map(kernels.unrecognised, others))
    assert not kernels.unrecognised(call('jit(f)/attention/rotated/pallas_call', 1))  # in it, not of it
    assert not kernels.unrecognised(call('a/attention', 1, target='AllocateBuffer'))
