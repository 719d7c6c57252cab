"""The text is read whole: what the lines say, and where they end."""

import re

import pytest

from mmjax.plan import hlo
from tests.plan import texts

ALL = sorted(path.name.removesuffix('.txt.gz') for path in texts.DATA.glob('*.gz'))


def test_the_committed_texts_are_those_of_the_programs():
    assert sorted(texts.PROGRAMS) == ALL
    assert all(path.stat().st_size < 60_000 for path in texts.DATA.glob('*.gz'))


@pytest.mark.parametrize('name', ALL)
def test_every_line_of_a_text_is_read(name):
    text = texts.read(name)
    module = hlo.parse(text)
    instructions = [one for computation in module.computations.values() for one in computation]
    assert len(instructions) == len(re.findall(r'^ +(?:ROOT )?%[^ ]+ = ', text, re.MULTILINE))
    assert len(module.computations) == len(re.findall(r'^}$', text, re.MULTILINE))
    for computation in module.computations.values():
        assert computation.root
        for one in computation:
            assert set(one.operands) <= set(computation.instructions)
            called = one.called('calls', 'to_apply', 'body', 'condition')
            assert set(called) <= set(module.computations)
            assert ('backend_config={' in one.text) == bool(one.backend_config)
            assert one.shape is not None
    assert module.entry.name == re.search(r'^ENTRY %(\S+)', text, re.MULTILINE)[1]


def test_attributes_of_a_pallas_call_span_lines_that_end_nothing():
    text = texts.read('splash')
    assert '\n}}, ' in text
    calls = [
        one
        for computation in hlo.parse(text).computations.values()
        for one in computation
        if one.attribute('custom_call_target') == 'tpu_custom_call'
    ]
    assert len(calls) == 4
    for call in calls:
        assert 'block_kv' in call.attribute('frontend_attributes')
        assert call.op_name.endswith('pallas_call')
        assert call.backend_config['custom_call_config']['body'] == ''


@pytest.mark.parametrize(
    ('text', 'shape', 'size'),
    [
        ('bf16[8,128]{1,0:T(8,128)(2,1)S(1)}', hlo.Array('bf16', (8, 128), 1), 2048),
        ('s32[]{:T(128)}', hlo.Array('s32', ()), 4),
        ('pred[3]', hlo.Array('pred', (3,)), 3),
        ('f8e4m3fn[5]{0}', hlo.Array('f8e4m3fn', (5,)), 5),
        ('s4[3]{0:E(4)}', hlo.Array('s4', (3,)), 2),
        ('c64[2,2]{1,0}', hlo.Array('c64', (2, 2)), 32),
        ('token[]', hlo.Array('token', ()), 0),
        ('()', (), 0),
        (
            '((bf16[2]{0:T(256)(2,1)}, /*index=1*/f32[]), (), u32[2]{0:S(2)})',
            ((hlo.Array('bf16', (2,)), hlo.Array('f32', ())), (), hlo.Array('u32', (2,), 2)),
            16,
        ),
    ],
)
def test_shapes(text, shape, size):
    assert hlo.parse_shape(text) == shape
    assert hlo.size(hlo.parse_shape(text)) == size


@pytest.mark.parametrize('text', ['', 'module @jit_f {', 'HloModule f\n\nENTRY %main () -> f32[] {\n  %x = f32[] foo'])
def test_what_is_no_whole_program_is_refused(text):
    with pytest.raises(ValueError, match=r'compiled program'):
        hlo.parse(text)
