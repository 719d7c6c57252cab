"""Trip counts: of programs compiled here, with and without the note that TPU texts do not have, and of TPU texts."""

import jax
import jax.numpy as jnp
import pytest

from mmjax.plan import hlo, rollup
from mmjax.plan.executed import execution
from tests.plan import texts


def compiled(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, 'float32') for shape in shapes)).compile().as_text()


def nested(x, w):
    def inner(h, _):
        return jnp.tanh(h @ w), None

    def outer(h, _):
        return jax.lax.scan(inner, h, length=5)[0] + 1, None

    return jax.lax.scan(outer, x, length=7)[0]


def counted(first, last, step):
    return lambda x: jax.lax.while_loop(
        lambda c: c[0] < last if step > 0 else c[0] > last, lambda c: (c[0] + step, jnp.sin(c[1])), (first, x)
    )


def loops(text):
    """{name: how often its body runs}, all loops around it included."""
    module = hlo.parse(text)
    run = execution(module)
    times = {visit.computation.name: visit.times for visit in run.visits}
    found = [visit.instruction for visit in run.visits if visit.instruction.opcode == 'while']
    return sorted(times[loop.called('body')[0]] for loop in found), run.unresolved


@pytest.mark.parametrize('noted', [True, False])
def test_loops_in_loops_multiply(noted):
    text = compiled(nested, (64, 64), (64, 64))
    assert 'known_trip_count' in text
    assert loops(text if noted else text.replace('known_trip_count', 'was_known')) == ([7, 35], ())


@pytest.mark.parametrize(('first', 'last', 'step'), [(0, 12, 1), (3, 12, 2), (3, 12, 4), (12, 3, -2), (0, 4, 3)])
def test_a_counter_may_start_and_step_as_it_likes(first, last, step):
    text = compiled(counted(first, last, step), (256,)).replace('known_trip_count', 'was_known')
    assert loops(text) == ([len(range(first, last, step))], ())


def test_a_loop_of_unknown_length_is_told_and_counts_once():
    text = compiled(lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x * 2 + 1, x), (128,))
    times, unresolved = loops(text)
    assert times == [1]
    assert len(unresolved) == 1


def test_the_first_value_of_a_counter_may_be_unknown():
    text = compiled(lambda x, i: jax.lax.fori_loop(i[0].astype(int), 9, lambda _, x: jnp.sin(x), x), (128,), (1,))
    assert loops(text)[1]


def test_a_counter_may_go_down_to_its_limit_and_include_it():
    text = compiled(counted(12, 3, -2), (256,)).replace('known_trip_count', 'was_known')
    assert loops(text.replace('direction=GT', 'direction=GE')) == ([5], ())  # 12 10 8 6 4
    assert loops(text.replace('direction=GT', 'direction=GE').replace('constant(3)', 'constant(4)')) == ([5], ())
    assert loops(text.replace('constant(3)', 'constant(4)')) == ([4], ())


def test_a_loop_that_starts_at_the_counter_of_another_is_unknown():
    def triangle(x):
        return jax.lax.fori_loop(0, 5, lambda i, x: jax.lax.fori_loop(i, 9, lambda _, x: jnp.sin(x), x), x)

    times, unresolved = loops(compiled(triangle, (256,)).replace('known_trip_count', 'was_known'))
    assert times == [5, 5]
    assert len(unresolved) == 1


def test_every_branch_of_a_condition_counts():
    text = compiled(lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: (x @ x) @ x, x), (64, 64))
    assert execution(hlo.parse(text)).conditions == 1
    assert rollup.rolled_up(hlo.parse(text)).dot_flops == 3 * 2 * 64**3


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('layers_scanned', [8]), ('layers_unrolled', []), ('step_v5e', [4, 4]), ('splash', [3, 3]), ('gpu', [6])],
)
def test_trip_counts_of_other_hardware(name, expected):
    text = texts.read(name)
    assert ('known_trip_count' in text) == (name == 'gpu')  # TPU does not note it
    assert loops(text) == (expected, ())


def test_the_limit_may_be_handed_through_the_loop():
    """A text by hand: the compiler may take the constant out of the condition."""
    text = """HloModule handed
%body (p: (s32[], s32[])) -> (s32[], s32[]) {
  %p = (s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%one, %i)
  ROOT %t = (s32[], s32[]) tuple(%next, %n)
}

%condition (q: (s32[], s32[])) -> pred[] {
  %q = (s32[], s32[]) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %m = s32[] get-tuple-element(%q), index=1
  ROOT %less = pred[] compare(%m, %j), direction=GE
}

ENTRY %main () -> (s32[], s32[]) {
  %zero = s32[] constant(0)
  %nine = s32[] constant(9)
  %copied = s32[] copy(%nine)
  %given = (s32[], s32[]) tuple(%zero, %copied)
  ROOT %loop = (s32[], s32[]) while(%given), condition=%condition, body=%body
}
"""
    assert loops(text) == ([10], ())
    assert loops(text.replace(' constant(1)', ' constant(4)')) == ([3], ())
    assert loops(text.replace('tuple(%next, %n)', 'tuple(%next, %next)'))[1] == ('loop',)
