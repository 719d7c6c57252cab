"""A deterministic run has the same bits on any number of devices over which its batch is cut."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from mmjax.data import train_batches
from mmjax.sharding import MeshShape, place_batch
from mmjax.sharding.candidates import abstract
from mmjax.train.check_parts import SMALL, captions, mixture
from mmjax.train.digests import digests
from mmjax.train.fixed_order import obstacle, portions_of
from mmjax.train.mesh_equality import prepared
from tests.train import toy

STEPS = 4
OF = toy.experiment(deterministic=True)  # with dropout, absent modalities, a moving average
CUT = MeshShape(data=2, fsdp=-1)


@functools.cache
def on(devices, shape):
    """The mesh, the step, and a fresh state with its shardings."""
    of = dataclasses.replace(OF, mesh=shape)
    mesh, _, state, step = prepared(of, jax.devices()[:devices])
    return mesh, step, jax.device_get(state), jax.tree.map(lambda x: x.sharding, state)


def trained(*stretches, shape=None):
    """State and metrics after `STEPS` steps in so many equal stretches, each on its number of devices."""
    state, told = None, []
    shape = shape or MeshShape()
    stream = train_batches(OF.data, batch_size=OF.batch_size, seed=OF.seed)
    for devices in stretches:
        mesh, step, fresh, shardings = on(devices, shape)
        state = jax.device_put(jax.tree.map(np.array, fresh if state is None else state), shardings)
        with jax.set_mesh(mesh):
            for batch in itertools.islice(stream, STEPS // len(stretches)):
                state, metrics = step(state, place_batch(batch, mesh))
                told.append({name: float(x) for name, x in metrics.items()})
        state = jax.device_get(state)
    stream.close()
    return digests(state), told


@functools.cache
def reference():
    return trained(8)


@pytest.mark.parametrize('stretches', [(4,), (2,), (2, 8), (8, 2, 8, 4)], ids=str)
def test_the_bits_are_those_of_eight_devices(stretches):
    assert trained(*stretches) == reference()


def test_so_they_are_where_parameters_are_cut():
    assert trained(8, shape=CUT) == reference()


def test_losses_are_those_of_a_run_without_it_at_first():
    """Before dropout, whose draws are others, has made a difference: of a model without."""
    still = dataclasses.replace(OF, model=toy.model(dropout=0.0))
    first = []
    for deterministic in (False, True):
        mesh, _, state, step = prepared(dataclasses.replace(still, deterministic=deterministic), jax.devices()[:2])
        batches = train_batches(OF.data, batch_size=OF.batch_size, seed=OF.seed)
        with jax.set_mesh(mesh):
            metrics = step(state, place_batch(next(batches), mesh))[1]
        batches.close()
        first.append({name: float(x) for name, x in metrics.items()})
    assert first[1] == pytest.approx(first[0], rel=1e-5)


def test_what_cannot_be_is_said():
    assert obstacle(OF, abstract(MeshShape(), 8)) == obstacle(OF, abstract(CUT, 8)) == obstacle(OF, None) == ''
    assert obstacle(mixture(SMALL), abstract(MeshShape(data=2, expert=4), 8)) == ''
    assert obstacle(OF, abstract(MeshShape(tensor=2), 8)) == 'the mesh cuts more than the batch'
    assert '16 parts, among which its 8 portions' in obstacle(OF, abstract(MeshShape(), 16))
    assert 'objective pairs compares the rows' in obstacle(captions(SMALL), abstract(MeshShape(), 2))


@pytest.mark.parametrize('size, accumulate, portions', [(16, 1, 8), (16, 4, 4), (12, 1, 6), (7, 1, 7), (11, 1, 1)])
def test_portions_are_equal(size, accumulate, portions):
    optim = dataclasses.replace(OF.optim, accumulate=accumulate)
    assert portions_of(dataclasses.replace(OF, batch_size=size, optim=optim)) == portions
