"""FLOPs against those that JAX's own trace tells, cycles of a loop against the same layers written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.nn.flops import count_flops
from mmjax.plan import hlo, rollup
from mmjax.plan.collective_ops import KINDS
from tests.plan import texts
from tests.plan.test_collectives import BY_HAND
from tests.plan.texts import LAYER, STEP_MESH, B, D, H, K, L, N, V


def rolled(text):
    return rollup.rolled_up(hlo.parse(text))


def shapes(*dims):
    return [jax.ShapeDtypeStruct(dim, 'float32') for dim in dims]


def scanned(x, w):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, w)[0]


PROGRAMS = {
    'scan': (scanned, shapes((16, 48), (6, 48, 48))),
    'backward': (jax.grad(lambda x, w: scanned(x, w).sum(), (0, 1)), shapes((16, 48), (6, 48, 48))),
    'batched': (lambda x, y: jnp.einsum('bnhk,bmhk->bhnm', x, y), shapes((2, 16, 3, 8), (2, 24, 3, 8))),
    'convolution': (
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (2, 1), ((1, 1), (0, 2)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        ),
        shapes((2, 9, 8, 3), (3, 3, 3, 5)),
    ),
    'dilated': (
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (1,), ((2, 2),), lhs_dilation=(2,), rhs_dilation=(3,), dimension_numbers=('NHC', 'HIO', 'NHC')
        ),
        shapes((2, 9, 4), (3, 4, 5)),
    ),
    'groups': (
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (1,), 'SAME', feature_group_count=4, dimension_numbers=('NHC', 'HIO', 'NHC')
        ),
        shapes((2, 9, 8), (3, 2, 12)),
    ),
}


@pytest.mark.parametrize('name', PROGRAMS)
def test_dot_flops_are_those_of_the_trace(name):
    function, arguments = PROGRAMS[name]
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert rolled(text).dot_flops == count_flops(function, *arguments) > 0


def test_groups_of_a_batch_share_its_products():
    """By hand, for the CPU's compiler writes them in another way: each of 12 outputs sees half of the batch of 6."""
    text = """HloModule f
ENTRY %main (x: f32[6,9,8], w: f32[3,8,12]) -> f32[3,7,12] {
  %x = f32[6,9,8]{2,1,0} parameter(0)
  %w = f32[3,8,12]{2,1,0} parameter(1)
  ROOT %c = f32[3,7,12]{2,1,0} convolution(%x, %w), window={size=3}, dim_labels=b0f_0io->b0f, batch_group_count=2
}
"""
    assert rolled(text).dot_flops == 2 * (3 * 7 * 12) * (3 * 8)


def test_dot_flops_of_a_tpu_step_are_those_of_the_model():
    """On TPU products are convolutions, the batched ones over dilated inputs, most of them in fusions."""
    product, scores, devices = 2 * B * N * LAYER, 2 * 2 * B * H * N * N * K, np.prod([*STEP_MESH.values()])
    # Forward, made again but for the last product, whose output nothing reads, and twice as much backward.
    made_again = product - 2 * B * N * D * texts.F
    layers = L * (3 * product + made_again + 4 * scores)
    for name in ('step_v5e', 'step_v6e'):
        assert rolled(texts.read(name)).dot_flops * devices == layers + 3 * 2 * B * N * D * V


def test_a_loop_has_the_cycles_of_its_layers_written_out():
    loop, unrolled = rolled(texts.read('layers_scanned')), rolled(texts.read('layers_unrolled'))
    assert loop.dot_flops == unrolled.dot_flops == 8 * 2 * 2 * 4096 * 2048 * 8192
    turn = [one.cycles // one.times for one in loop.work if one.kind == 'matmul']
    assert [one.times for one in loop.work if one.kind == 'matmul'] == [8, 8]
    written = [one.cycles for one in unrolled.work if one.kind == 'matmul']
    # The same but for the first product, which reads its input from main memory, and the last, which writes there.
    assert written[1:-1] == (turn * 8)[1:-1]
    inner = loop.cycles - sum(turn), unrolled.cycles - written[0] - written[-1]
    assert inner[0] == inner[1]
    assert loop.cycles == pytest.approx(unrolled.cycles, rel=0.01)
    assert loop.cycles_by_kind['matmul'] == loop.cycles


def test_bytes_of_stacked_layers_are_those_of_one_layer_a_turn():
    loop = rolled(texts.read('layers_scanned'))
    weights, h = 2 * 2 * 2048 * 8192, 2 * 4096 * 2048
    # Both weights each turn, h into and out of the chip's own memory, which holds everything else; and the counter.
    moves = sum(one.bytes for one in loop.work)
    assert moves == pytest.approx(8 * weights + 2 * h, rel=1e-4)
    assert loop.roofline_seconds(flops_per_second=1e30, bytes_per_second=1e9) == pytest.approx(moves / 1e9)
    assert loop.roofline_seconds(flops_per_second=1e12, bytes_per_second=1e30) == pytest.approx(loop.dot_flops / 1e12)


def test_bytes_of_a_gather_are_those_that_the_compiler_says():
    """`cost_analysis()['bytes accessed']` of this program, which has neither loops nor fusions."""
    assert sum(one.bytes for one in rolled(texts.read('gather64')).work) == 3_238_002_688


def test_bytes_of_an_asynchronous_collective_count_where_it_begins():
    small, whole = 8 * 4, 32 * 4
    moves = sum(one.bytes for one in rolled(BY_HAND).work)
    assert moves == 2 * (small + whole) + 2 * small  # two gathers, and a sum of one device


def test_an_update_in_place_moves_what_it_writes():
    def stacked(x):
        return jax.lax.scan(lambda h, _: (jnp.sin(h), h), x, length=50)

    compiled = jax.jit(stacked).lower(*shapes((4096,))).compile()
    moves = sum(one.bytes for one in rolled(compiled.as_text()).work)
    assert moves < 50 * 4096 * 4 * 10  # with the whole stack each turn it would be 50 x 50


def test_the_sentinel_is_no_estimate():
    text = texts.read('layers_scanned')
    cycles = rolled(text)
    known = [one for one in cycles.work if one.cycles]
    one = known[0].cycles // known[0].times
    without = rolled(text.replace(f'"estimated_cycles":"{one}"', '"estimated_cycles":"9223372036854775807"'))
    assert (cycles.unknown, without.unknown) == (0, 8)
    assert without.cycles == cycles.cycles - known[0].cycles


@pytest.mark.parametrize('name', ['step_v5e', 'step_v6e', 'splash', 'gpu'])
def test_collectives_have_no_cycles_and_kinds_are_sound(name):
    found = rolled(texts.read(name))
    assert {one.kind for one in found.work} <= set(rollup.KINDS)
    assert all(one.kind == 'matmul' for one in found.work if one.dot_flops)
    named = [one for one in found.work if one.name.rpartition('.')[0] in KINDS]
    assert all(one.cycles is None and one.kind == 'collective' for one in named)
    assert not found.unresolved


def test_gpu_fusions_hold_the_products():
    assert rolled(texts.read('gpu')).dot_flops == 6 * 2 * 512 * 1024 * 1024


def test_custom_calls_are_listed_apart():
    calls = [call for call in rolled(texts.read('splash')).custom_calls if call.target == 'tpu_custom_call']
    assert [call.count for call in calls] == [3, 3, 3, 3]
    for call in calls:
        q, k, v = [array for array in call.operands if array.dtype == 'bf16'][:3]
        assert q.dims == k.dims == v.dims == (2, 4, 1024, 128)
        assert call.op_name.endswith('pallas_call')
    assert [len(call.outputs) for call in calls] == [2, 2, 2, 1]


def test_custom_calls_are_in_no_roofline():
    """Written so that the kernel's bytes are in two memories, and with the FLOPs that its author notes."""
    text = """HloModule f, is_scheduled=true
ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0} parameter(0)
  %y = f32[8,128]{1,0:S(1)} copy(%x)
  %k = f32[8,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", METADATA, CONFIG
  ROOT %l = f32[8,128]{1,0} custom-call(%y), custom_call_target="tpu_custom_call", METADATA, CONFIG
}
""".replace('METADATA', 'metadata={op_name="jit(f)/mine/pallas_call"}')
    noted = 'backend_config={"custom_call_config":{"body":"","cost_estimate":{"flops":"700"}}}'
    size = 8 * 128 * 4
    for config, flops in ((noted, 1400), ('backend_config={"custom_call_config":{"body":""}}', None)):
        found = rolled(text.replace('CONFIG', config))
        (call,) = found.custom_calls
        assert (call.count, call.bytes, call.flops) == (2, 3 * size, flops)  # one of the four is on the chip
        assert found.roofline_seconds(flops_per_second=1.0, bytes_per_second=1.0) == size  # the copy reads
