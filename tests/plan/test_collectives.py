"""Kinds, axes, counts and bytes against what is known by hand of each program."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mmjax.plan import hlo
from mmjax.plan.collectives import collectives, grouped, wire_bytes
from tests.plan import texts
from tests.plan.texts import LAYER, STEP_MESH, B, D, L, N, V

FSDP, TENSOR = STEP_MESH.values()


def totals(text, mesh_shape):
    return {
        (one.kind, one.axes, one.group): (one.count, one.bytes_out, one.wire_bytes)
        for one in grouped(collectives(hlo.parse(text), mesh_shape))
    }


def exchanged(*, turns, width, rows, item):
    """What `texts.exchanges` does on a mesh of 4 x 2, by hand."""
    w, h = width * width * item, rows // 4 * width * item
    return {
        ('all-gather', ('fsdp',), 4): (turns, turns * w, turns * w * 3 // 4),
        ('all-reduce', ('tensor',), 2): (turns, turns * h, turns * h),
        ('collective-permute', ('fsdp',), 2): (turns, turns * h, turns * h),
        ('reduce-scatter', ('fsdp',), 4): (1, h // 4, h * 3 // 4),
        ('all-reduce', ('fsdp', 'tensor'), 8): (1, h, 2 * h * 7 // 8),
        ('all-to-all', ('fsdp',), 4): (1, h, h * 3 // 4),
    }


@pytest.mark.parametrize('order', [range(8), [0, 3, 5, 6, 1, 2, 7, 4]])
def test_what_shard_map_says_is_found_whatever_the_order_of_devices(order):
    """Device ids in the text are places in the mesh, not ids of hardware."""
    devices = np.array(jax.devices())[list(order)].reshape(4, 2)
    lowered = texts.exchanges(Mesh(devices, tuple(STEP_MESH)), turns=5, width=64, rows=128, dtype='float32')
    found = totals(lowered.compile().as_text(), STEP_MESH)
    assert found == exchanged(turns=5, width=64, rows=128, item=4)


def test_asynchronous_starts_of_a_gpu_count_their_output_alone():
    text = texts.read('gpu')
    assert 'all-to-all-start(' in text
    assert totals(text, STEP_MESH) == exchanged(turns=6, width=1024, rows=2048, item=2)


@pytest.mark.parametrize(
    ('name', 'kind', 'times'), [('gather64', 'all-gather', 1), ('gather64_no_wrap', 'all-reduce', 2)]
)
def test_a_gather_that_the_compiler_makes_a_sum_sends_twice_as_much(name, kind, times):
    whole = 1 << 30
    assert totals(texts.read(name), {'x': 64}) == {(kind, ('x',), 64): (1, whole, times * whole * 63 // 64)}


def test_a_step_gathers_its_parameters_twice_and_scatters_their_gradients():
    """v6e, where XLA leaves the gathers whole: in bf16, forward and backward; the embedding for tokens and logits."""
    found = totals(texts.read('step_v6e'), STEP_MESH)
    layers, embed = 2 * L * LAYER // TENSOR, 2 * V * D // TENSOR
    assert found['all-gather', ('fsdp',), FSDP][1] == 2 * (layers + embed)
    _, out, wire = found['reduce-scatter', ('fsdp',), FSDP]
    assert (out * FSDP, wire) == (layers + embed, (layers + embed) * (FSDP - 1) // FSDP)
    # Over `tensor`: activations, two a layer forward, two backward, one made again; and around embedding and logits.
    activation = 2 * B * N * D // FSDP
    _, out, wire = found['all-reduce', ('tensor',), TENSOR]
    assert out == wire
    assert out == pytest.approx((L * 5 + 2) * activation, rel=1e-3)
    assert found['all-reduce', ('fsdp', 'tensor'), FSDP * TENSOR][1] == 4  # the loss


def test_asynchronous_collectives_of_a_tpu_count_once():
    """v5e: some gathers are asynchronous, each written in up to ten fusions; most are taken apart into permutes.

    The figures are those of the same program with JAX_OPTIMIZATION_LEVEL=O1, which makes none of them asynchronous.
    """
    text = texts.read('step_v5e')
    assert text.count('AsyncCollectiveStart') == 6
    assert text.count(' all-gather(') == 35
    assert totals(text, STEP_MESH) == {
        ('collective-permute', ('fsdp',), 2): (169, 95_944_704, 95_944_704),
        ('all-reduce', ('tensor',), 2): (24, 92_291_072, 92_291_072),
        ('all-gather', ('fsdp',), 4): (30, 58_720_256, 44_040_192),
        ('all-to-all', ('fsdp',), 4): (1, 4_194_304, 3_145_728),
        ('all-reduce', ('fsdp',), 4): (1, 2_097_152, 3_145_728),
        ('collective-permute', ('fsdp', 'tensor'), 2): (3, 1_056_768, 1_056_768),
        ('all-gather', ('tensor',), 2): (1, 32_768, 16_384),
        ('all-gather', ('fsdp',), 2): (1, 16_384, 8_192),
        ('all-reduce', ('fsdp', 'tensor'), 8): (1, 4, 7),
    }


def test_the_same_channel_is_not_the_same_collective():
    """JAX gives the collectives of `shard_map` one channel: none may be lost for it."""
    text = texts.read('step_v5e')
    alike = hlo.re.sub(r'channel_id=\d+', 'channel_id=1', text)
    assert totals(alike, STEP_MESH) == totals(text, STEP_MESH)


BY_HAND = """HloModule hand, num_partitions=8

%begin (p: f32[8]) -> (f32[8], f32[32]) {
  %p = f32[8]{0} parameter(0)
  %all-gather.1 = f32[32]{0} all-gather(%p), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %start = (f32[8]{0}, f32[32]{0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%end (q: f32[8], r: f32[32]) -> f32[32] {
  %q = f32[8]{0} parameter(0)
  %r = f32[32]{0} parameter(1)
  %all-gather.2 = f32[32]{0} all-gather(%q), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %done = f32[32]{0} custom-call(%q, %r, %all-gather.2), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (x: f32[8]) -> (f32[32], f32[32], f32[8]) {
  %x = f32[8]{0} parameter(0)
  %begun = (f32[8]{0}, f32[32]{0}) fusion(%x), kind=kCustom, calls=%begin
  %y = f32[8]{0} get-tuple-element(%begun), index=0
  %z = f32[32]{0} get-tuple-element(%begun), index=1
  %ended = f32[32]{0} fusion(%y, %z), kind=kCustom, calls=%end
  %all-gather.3 = f32[32]{0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %alone = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups=[8,1]<=[8], use_global_device_ids=true, to_apply=%add
  ROOT %all = (f32[32]{0}, f32[32]{0}, f32[8]{0}) tuple(%ended, %all-gather.3, %alone)
}
"""


def test_one_like_another_that_is_asynchronous_counts_and_one_alone_does_not():
    text = BY_HAND.replace('dimensions', 'use_global_device_ids=true, dimensions')
    found = collectives(hlo.parse(text), {'x': 2, 'y': 4})
    assert [(one.name, one.axes, one.bytes_out) for one in found] == [
        ('all-gather.1', ('y',), 128),
        ('all-gather.3', ('y',), 128),
    ]


def test_transfers_between_slices_are_found():
    found = collectives(hlo.parse(texts.read('slices')), {'slices': 4, 'fsdp': 4})
    mine = 4096 * 512 * 2 // 16
    over = {(one.kind, one.axes, one.bytes_out, one.wire_bytes) for one in found if one.network}
    assert over == {
        ('all-reduce', ('slices',), mine // 4, 2 * mine // 4 * 3 // 4),
        ('all-to-all', ('slices',), mine, mine * 3 // 4),
        ('collective-permute', ('slices',), mine, mine),
    }
    within = {(one.kind, one.axes, one.bytes_out) for one in found if not one.network}
    assert within == {('reduce-scatter', ('fsdp',), mine // 4), ('all-gather', ('fsdp',), mine)}


def test_a_mesh_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r'has 6 devices, the program 8'):
        collectives(hlo.parse(texts.read('step_v6e')), {'fsdp': 3, 'tensor': 2})


@pytest.mark.parametrize('group', [2, 3, 8])
def test_wire_bytes_are_what_a_device_sends_when_numbers_are_handed_on(group):
    """Played: until each device has all parts (gather), its part of the sum (scatter), or what is for it (exchange)."""
    rng = np.random.default_rng(group)
    held = rng.integers(100, size=(group, group, 3), dtype=np.int32)  # device, part, numbers
    part, whole = held[0, 0].nbytes, held[0].nbytes

    sent, has = 0, [{i: held[i, 0]} for i in range(group)]  # a device passes on what came last
    last = list(range(group))
    while any(len(parts) < group for parts in has):
        given = [(last[i], has[i][last[i]]) for i in range(group)]
        sent += given[0][1].nbytes
        for i, (which, numbers) in enumerate(given):
            has[(i + 1) % group][which] = numbers
            last[(i + 1) % group] = which
    assert wire_bytes('all-gather', bytes_out=whole, bytes_in=part, group=group) == sent

    scattered, sums = 0, held.copy()  # device i ends with the sum of part i + 1
    for turn in range(group - 1):
        given = [sums[i, (i - turn) % group].copy() for i in range(group)]
        scattered += given[0].nbytes
        for i, numbers in enumerate(given):
            sums[(i + 1) % group, (i - turn) % group] += numbers
    assert all((sums[i, (i + 1) % group] == held[:, (i + 1) % group].sum(0)).all() for i in range(group))
    assert wire_bytes('reduce-scatter', bytes_out=part, bytes_in=whole, group=group) == scattered
    assert wire_bytes('all-reduce', bytes_out=whole, bytes_in=whole, group=group) == scattered + sent  # then gathered

    exchanged = sum(held[0, j].nbytes for j in range(1, group))  # part j is for device j, and goes there
    assert wire_bytes('all-to-all', bytes_out=whole, bytes_in=whole, group=group) == exchanged
    assert wire_bytes('collective-permute', bytes_out=part, bytes_in=part, group=2) == part


FUSED = """HloModule fused, num_partitions=4

%sum_and_after (p: f32[64,8]) -> OUT {
  %p = f32[64,8]{1,0} parameter(0)
  %all-reduce.1 = f32[64,8]{1,0} all-reduce(%p), channel_id=1, replica_groups=[1,4]<=[4], use_global_device_ids=true
  ROOT %after = OUT AFTER
}

ENTRY %main (x: f32[64,8]) -> OUT {
  %x = f32[64,8]{1,0} parameter(0)
  ROOT %fusion = OUT fusion(%x), kind=kCustom, calls=%sum_and_after
}
"""


@pytest.mark.parametrize(
    ('out', 'after', 'kind', 'wire'),
    [
        ('bf16[64,8]', 'convert(%all-reduce.1)', 'all-reduce', 3072),  # all of it, shorter
        ('f32[16,8]', 'dynamic-slice(%all-reduce.1, %i, %z), dynamic_slice_sizes={16,8}', 'reduce-scatter', 1536),
        ('f32[17,8]', 'dynamic-slice(%all-reduce.1, %i, %z), dynamic_slice_sizes={17,8}', 'reduce-scatter', 1536),
        ('f32[8]', 'reduce(%all-reduce.1, %z), dimensions={0}', 'all-reduce', 3072),
    ],
)
def test_a_sum_of_which_a_part_is_kept_is_a_scatter_and_one_that_is_made_shorter_is_none(out, after, kind, wire):
    """Of 2,048 bytes over 4 devices; a slice may be a little more than a quarter where it is padded."""
    text = FUSED.replace('AFTER', after).replace('OUT', out)
    (one,) = collectives(hlo.parse(text), {'x': 4})
    assert (one.kind, one.wire_bytes) == (kind, wire)
    assert one.groups.tolist() == [[0, 1, 2, 3]]
