"""The table from logical to mesh axes, and that it really places arrays and changes compiled programs."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mmjax import sharding
from mmjax.decoders.classification import MaskedMean
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.sharding import MeshShape, constrain
from mmjax.sharding.presets import Dp, Fsdp, FsdpTp, LongContext, Moe, Multislice, memory

BLOCK = Block(attention=Attention(heads=2))
MODEL = Model(
    {'image': PatchEncoder(width=16, patch=4, depth=0), 'text': TokenEncoder(vocabulary=12, width=16, depth=0)},
    Early(depth=2, block=BLOCK),
    {'answer': MaskedMean(classes=4)},
)


@pytest.mark.parametrize(
    ('shape', 'sizes'),
    [
        (MeshShape(), (1, 8, 1, 1, 1, 1)),
        (MeshShape(2, 2, 2), (1, 2, 2, 1, 1, 2)),
        (MeshShape(1, -1, 2), (1, 1, 4, 1, 1, 2)),
        (MeshShape(1, 4, -1), (1, 1, 4, 1, 1, 2)),
        (MeshShape(sequence=2, expert=4), (1, 1, 1, 4, 2, 1)),
        (MeshShape(slices=2, fsdp=2), (2, 2, 2, 1, 1, 1)),
        (Dp(), (1, 8, 1, 1, 1, 1)),
        (Fsdp(), (1, 1, 8, 1, 1, 1)),
        (FsdpTp(), (1, 1, 2, 1, 1, 4)),
        (LongContext(), (1, 1, 2, 1, 4, 1)),
        (Moe(), (1, 1, 2, 4, 1, 1)),
        (Multislice(), (2, 1, 4, 1, 1, 1)),
    ],
)
def test_mesh(shape, sizes):
    mesh = shape.build()
    assert mesh.axis_names == ('slices', 'data', 'fsdp', 'expert', 'sequence', 'tensor') and mesh.devices.shape == sizes
    assert MeshShape().build(jax.devices()[:3]).devices.shape == (1, 3, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        (MeshShape(3), r"'data': 3.* there are 8"),
        (MeshShape(-1, 3), r"'fsdp': 3.* there are 8"),
        (MeshShape(2, 2, 1), 'need 4 .* 8'),
        (MeshShape(-1, -1), 'more than one -1'),
        (MeshShape(8, 0), 'size below 1'),
        (MeshShape(8, -2), 'size below 1'),
    ],
)
def test_mesh_that_does_not_fit(shape, message):
    with pytest.raises(UserError, match=message):
        shape.build()


@dataclasses.dataclass(frozen=True)
class Fake:
    """A device that is not here. limit: of its memory; None: it is another process's, which JAX does not let ask."""

    id: int
    slice_index: int = 0
    platform: str = 'gpu'
    limit: int | None = None

    def memory_stats(self):
        if self.limit is None:
            raise jax.errors.JaxRuntimeError('INVALID_ARGUMENT: MemoryStats is only supported for addressable devices')
        return {'bytes_limit': self.limit}


def nodes_of(shape, devices):
    return np.vectorize(lambda device: device.slice_index)(shape.build(devices).devices)


def test_any_mesh_spans_nodes_of_gpus():
    # As XLA numbers them: each node a slice. Processes were not started in the order of the nodes.
    nodes = [Fake(8 * node + i, node) for node in (1, 3, 0, 2) for i in range(8)]
    assert sharding.count_slices(nodes) == 1
    found = nodes_of(Fsdp(), nodes)
    assert found.shape == (1, 1, 32, 1, 1, 1) and found.ravel().tolist() == sorted(found.ravel())
    outer = nodes_of(MeshShape(data=-1, fsdp=2, tensor=4), nodes).squeeze()
    assert outer.shape == (4, 2, 4) and (outer == np.arange(4)[:, None, None]).all()  # a replica of each in a node
    between = nodes_of(Multislice(slices=4), nodes).squeeze()
    assert between.shape == (4, 8) and (between == np.arange(4)[:, None]).all()


def test_slices_of_tpus_are_counted():
    tpus = [Fake(i, i // 4, 'tpu') for i in range(8)]
    assert sharding.count_slices(tpus) == 2
    with pytest.raises(UserError, match=r'mesh\.slices: 1, but the devices lie in 2 slices'):
        Fsdp().build(tpus)


def test_memory_is_that_of_devices_which_tell():
    assert memory([Fake(0), Fake(1, limit=95), Fake(2, limit=90)]) == 90
    assert memory([Fake(0)]) is None and memory([object()]) is None and memory([Fake(0, limit=0)]) is None


def test_the_table_names_axes_of_the_mesh_only():
    named = {axis for row in sharding.TABLE.values() for side in row for axis in side}
    assert named == set(sharding.MESH_AXES)


def test_partition_spec():
    assert sharding.partition_spec(['embed', 'heads', None], parameter=True) == P(
        ('fsdp', 'expert', 'sequence'), ('tensor',), None
    )
    assert sharding.partition_spec(['batch', 'length', 'embed'], parameter=False) == P(
        ('slices', 'data', 'fsdp', 'expert'), ('sequence',), None
    )


def test_unknown_axis_collision_and_rank():
    with pytest.raises(ValueError, match="unknown logical axis 'embd'; did you mean 'embed'"):
        sharding.partition_spec(['embd'], parameter=True)
    with pytest.raises(ValueError, match="'heads' and 'mlp' of one array are both on 'tensor'"):
        sharding.partition_spec(['heads', 'mlp'], parameter=True)
    with pytest.raises(ValueError, match=r'2 axes .* shape \(8, 4, 2\)'):
        constrain(jnp.zeros((8, 4, 2)), 'batch', 'length')
    with pytest.raises(ValueError, match='unknown logical axis'):  # without a mesh too: a test on one device finds it
        constrain(jnp.zeros(8), 'bath')


def test_sizes_that_do_not_divide():
    mesh = MeshShape(2, 2, 2).build()
    with jax.set_mesh(mesh), pytest.raises(UserError, match=r"'batch' has size 6, .* 4 devices"):
        jax.eval_shape(lambda: constrain(jnp.zeros((6, 2)), 'batch', 'length'))
    boxed = {'layer': {'kernel': nn.LogicallyPartitioned(jax.ShapeDtypeStruct((3, 4), jnp.float32), ('embed', 'mlp'))}}
    with pytest.raises(UserError, match=r"parameter layer/kernel: logical axis 'embed' has size 3, .* 2 devices"):
        sharding.parameter_shardings(boxed, mesh)
    sharding.check_batch(16, mesh, accumulate=4)
    with pytest.raises(UserError, match=r'batch_size: 12 does not divide by 16 .* multiple of 16'):
        sharding.check_batch(12, mesh, accumulate=4)


@pytest.mark.short
def test_constrain_changes_the_compiled_program():
    # Linen's own constraint does nothing, without a word, where it finds no mesh or rules: look at the result.
    mesh = MeshShape(2, 2, 2).build()
    x = np.ones((8, 4, 2, 2), np.float32)
    with jax.set_mesh(mesh):
        plain = jax.jit(lambda x: x * 2)(x)
        constrained = jax.jit(lambda x: constrain(x * 2, 'batch', 'length', 'heads', 'head_dim'))(x)
    assert plain.sharding.is_fully_replicated
    assert constrained.sharding.shard_shape(x.shape) == (2, 4, 1, 2)
    np.testing.assert_array_equal(constrained, 2 * x)


def test_constrain_without_a_mesh_does_nothing():
    x = jnp.ones((3, 2))
    assert constrain(x, 'batch', 'length') is x


def abstract(batch):
    return jax.eval_shape(lambda: MODEL.init(jax.random.key(0), batch))


def test_parameters_are_really_sharded(batch, random_parameters):
    mesh = MeshShape(2, 2, 2).build()
    params = jax.device_put(random_parameters(MODEL, batch), sharding.parameter_shardings(abstract(batch), mesh))[
        'params'
    ]
    layers = params['fusion']['stack']['layers']

    def part(x):
        return x.addressable_shards[0].data.shape

    assert part(layers['attend']['query']['kernel']) == (2, 8, 1, 8)  # layers, embed / 2, heads / 2, head_dim
    assert part(layers['feed_forward']['down']['kernel']) == (2, 32, 8)  # layers, mlp / 2, embed / 2
    assert part(params['encoders_text']['embed']['embedding']) == (6, 8)  # vocab / 2, embed / 2
    assert not any(x.sharding.is_fully_replicated for x in jax.tree.leaves(layers))


@pytest.mark.short
@pytest.mark.parametrize(
    'shape', [MeshShape(8), MeshShape(1, 4, 2), MeshShape(2, 2, 2)], ids=['data8', 'fsdp4-tensor2', '2-2-2']
)
def test_a_forward_pass_is_the_same_on_every_mesh(batch, random_parameters, shape):
    params = random_parameters(MODEL, batch)
    expected = jax.jit(MODEL.apply)(params, batch)['answer']
    mesh = shape.build()
    with jax.set_mesh(mesh):
        placed = sharding.place_batch({name: np.asarray(x) for name, x in batch.items()}, mesh)
        assert placed['image'].addressable_shards[0].data.shape[0] == 8 // sharding.batch_parts(mesh)
        params = jax.device_put(params, sharding.parameter_shardings(abstract(batch), mesh))
        found = jax.jit(MODEL.apply)(params, placed)['answer']
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
