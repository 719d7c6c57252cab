import dataclasses
import math

import jax
import pytest

from mmjax.plan.program import Compiled, OutOfMemory, compile_step, out_of_memory, step_for
from mmjax.sharding import MeshShape
from mmjax.train.prepare import prepare
from tests.train import toy

# As libtpu 0.0.52 says it, of a model on v5e:4x4; and of 256 GiB of arguments.
SAID = (
    'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO '
    'temporaries ({}) exceeds available HBM (15.75G). HLO module: jit_step.\nSee https://openxla.org/xla/errors/error_1000'
)


@pytest.mark.parametrize(
    ('size', 'need'), [('23.36G', 23.36), ('512.00G', 512), ('16500.0M', 16500 / 1024), ('1.5T', 1536)]
)
def test_out_of_memory_is_read(size, need):
    refused = out_of_memory(SAID.format(size))
    assert refused and refused.need / 2**30 == pytest.approx(need)
    assert refused.limit / 2**30 == pytest.approx(15.75)
    assert refused.missing / 2**30 == pytest.approx(need - 15.75)


def test_other_errors_are_not_out_of_memory():
    assert out_of_memory('INVALID_ARGUMENT: (3G) and (4G)') is None
    assert out_of_memory('RESOURCE_EXHAUSTED: too many requests') is None


@pytest.fixture(scope='module')
def compiled():
    experiment = toy.experiment(mesh=MeshShape(fsdp=2))
    prepared = prepare(experiment, run=None, devices=jax.devices()[:2])
    lowered = step_for(experiment, state=prepared.shapes, batch=prepared.batch, mesh=prepared.mesh)
    outcome = compile_step(lowered)
    assert isinstance(outcome, Compiled)
    state = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(prepared.shapes))
    batch = sum(x.size * x.dtype.itemsize for x in prepared.batch.values())
    return outcome, state, batch // 2


def test_arguments_are_the_state_and_the_batch_of_a_device(compiled):
    """Counted by hand: every leaf, cut by the mesh, but for what the step does not read of the batch."""
    outcome, state, batch = compiled
    assert state < outcome.argument <= state + batch
    assert outcome.temp > 0 and outcome.host == 0 and outcome.held >= outcome.most >= outcome.argument


def test_the_state_is_donated(compiled):
    """What is returned lies where the arguments did, but for the metrics."""
    outcome, state, _ = compiled
    assert outcome.alias >= 0.95 * state and outcome.output - outcome.alias < 0.05 * state + 4096


def test_the_text_is_that_of_all_devices_together(compiled):
    assert 'ENTRY' in compiled[0].text and 'all-reduce' in compiled[0].text


def test_what_the_compiler_refuses_is_no_program(monkeypatch):
    def refuse(self, **_):
        raise jax.errors.JaxRuntimeError(SAID.format('23.36G'))

    monkeypatch.setattr(jax.stages.Lowered, 'compile', refuse)
    refused = compile_step(jax.jit(abs).lower(1.0))
    assert isinstance(refused, OutOfMemory)
    assert dataclasses.replace(refused, seconds=0.0) == out_of_memory(SAID.format('23.36G'))
