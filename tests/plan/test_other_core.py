"""tpu7x sums gradients on another core of the chip, in computations that say so where they end."""

from mmjax.plan.collectives import collectives
from mmjax.plan.hlo import parse

BEGIN = 'custom-call-start(%y), async_execution_thread="sparsecore", called_computations={%beside}'

TEXT = """HloModule jit_step, is_scheduled=true, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}, execution_thread="sparsecore"

%beside (x: f32[16,64]) -> f32[16,64] {
  %x = f32[16,64]{1,0:T(8,128)} parameter(0)
  ROOT %all-reduce.1 = f32[16,64]{1,0:T(8,128)} all-reduce(%x), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%sum
}, execution_thread="sparsecore"

ENTRY %main (y: f32[16,64]) -> f32[16,64] {
  %y = f32[16,64]{1,0:T(8,128)} parameter(0)
  %start = ((f32[16,64]{1,0:T(8,128)}), f32[16,64]{1,0:T(8,128)}, u32[]{:S(2)}) BEGIN
  ROOT %done = f32[16,64]{1,0:T(8,128)} custom-call-done(%start)
}
"""


def test_what_runs_beside_counts_once():
    for begin in (BEGIN, 'call-start(%y), async_execution_thread="sparsecore", to_apply=%beside'):
        (one,) = collectives(parse(TEXT.replace('BEGIN', begin)), {'data': 8})
        assert (one.kind, one.axes, one.count, one.bytes_out) == ('all-reduce', ('data',), 1, 16 * 64 * 4)
