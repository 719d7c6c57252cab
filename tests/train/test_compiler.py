"""What the compiler is told, by the kind of the devices."""

import dataclasses
from types import SimpleNamespace

import jax
import pytest

from mmjax.train.compiler import compiler_options
from mmjax.train.guarded import step_program
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import abstract_state, mesh_of
from tests.train import toy


def device(platform, kind):
    return SimpleNamespace(platform=platform, device_kind=kind)


@pytest.mark.parametrize('platform, kind', [('cpu', 'cpu'), ('tpu', 'TPU v6 lite'), ('gpu', 'NVIDIA H100')])
def test_defaults(platform, kind):
    assert compiler_options(device(platform, kind), deterministic=False) is None


def test_a_fixed_order_is_asked_of_gpus_and_of_cpus():
    asked = compiler_options(device('gpu', 'NVIDIA H100'), deterministic=True)
    assert asked == {'xla_gpu_deterministic_ops': True}
    assert compiler_options(device('tpu', 'TPU v6 lite'), deterministic=True) is None
    assert compiler_options(device('cpu', 'cpu'), deterministic=True) == {'xla_cpu_multi_thread_eigen': False}


def test_xla_knows_the_option(monkeypatch):
    """A field of its debug options, whatever it compiles for."""
    experiment = dataclasses.replace(toy.experiment(), deterministic=True)
    batch = shapes_of_batch(experiment)
    asked = compiler_options(device('gpu', ''), deterministic=True)
    mesh = mesh_of(experiment, batch, jax.devices()[:1])
    monkeypatch.setattr('mmjax.train.guarded.compiler_options', lambda *_, **__: asked)
    shapes = abstract_state(experiment, batch, mesh)
    with jax.set_mesh(mesh):
        step_program(experiment, shapes).lower(shapes, batch).compile()
        with pytest.raises(jax.errors.JaxRuntimeError, match='xla_gpu_no_such_option'):
            jax.jit(lambda x: x, compiler_options={'xla_gpu_no_such_option': True})(1.0)
