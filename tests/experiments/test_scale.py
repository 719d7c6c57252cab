"""Models at the sizes of pods, by shapes alone: parameters against arithmetic, and that the mesh of a pod cuts them."""

import functools
import math

import jax
import pytest

from experiments.scale import decoder, prefix_lm, published, two_tower
from mmjax.sharding import MESH_AXES, check_batch
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import abstract_state
from mmjax.train.step import train_step


def layer(width, *, heads, keys, hidden, matrices, bias=False, scales=1):
    """Parameters of a block. heads, keys: widths of all queries and of all keys. scales: numbers of a norm by width."""
    attention = 2 * width * heads + 2 * width * keys + bias * (heads + 2 * keys + width)
    return attention + matrices * width * hidden + bias * (hidden + width) + 2 * scales * width


VIT = functools.partial(layer, matrices=2, bias=True, scales=2)
LLAMA = functools.partial(layer, matrices=3)


def connected(width, image, *, layers, hidden, tokens):
    """A tower with its patches, places and norm, its map to the decoder's width; a vector for each modality."""
    tower = layers * VIT(image, heads=image, keys=image, hidden=hidden) + 3 * 14 * 14 * image + (1 + tokens + 2) * image
    return tower + (image + 1) * width + 2 * width


def towers(image, text, *, layers, hidden, patch, tokens):
    """Both with their places and norms, a pool of one more layer behind images, a map behind text; two numbers more.

    Each pair of numbers is of images, then of text. image, text: widths.
    """
    of_images = layers[0] * VIT(image, heads=image, keys=image, hidden=hidden[0])
    of_images += (
        (3 * patch * patch + 1 + tokens) * image + VIT(image, heads=image, keys=image, hidden=4 * image) + image
    )
    of_text = layers[1] * VIT(text, heads=text, keys=text, hidden=hidden[1]) + (32_000 + 64 + 2) * text
    return of_images + of_text + (text + 1) * image + 2


LARGE = functools.partial(connected, image=1024, layers=24, hidden=4096)
LLAMA3 = LLAMA(4096, heads=4096, keys=1024, hidden=14_336)
COUNTS = {
    decoder.llama2_7b: 6_738_415_616,  # as published, and these two
    published.llama2_70b: 68_976_648_192,
    published.llama3_8b: 8_030_261_248,
    prefix_lm.b3: 18 * LLAMA(2048, heads=2048, keys=256, hidden=16_384)
    + (2 * 257_152 + 1) * 2048
    + connected(2048, 1152, layers=27, hidden=4304, tokens=256),
    prefix_lm.b8: 32 * LLAMA3 + (2 * 128_256 + 1) * 4096 + LARGE(4096, tokens=1024),
    # No vectors: the weights tell the modality.
    prefix_lm.b8_experts: 64 * LLAMA3 + (2 * 128_256 - 1) * 4096 + LARGE(4096, tokens=1024),
    prefix_lm.b8_long: 32 * LLAMA3 + (2 * 128_256 + 1) * 4096 + LARGE(4096, tokens=16_384),
    prefix_lm.b30: 52 * LLAMA(7168, heads=7168, keys=1024, hidden=20_480)
    + (2 * 64_000 + 1) * 7168
    + LARGE(7168, tokens=1024),
    two_tower.b0_4: towers(1024, 768, layers=(24, 12), hidden=(4096, 3072), patch=16, tokens=256),
    two_tower.b1_4: towers(1408, 1024, layers=(40, 24), hidden=(6144, 4096), patch=14, tokens=256),
}
SAID = {
    'b3': 3.4,
    'b8': 8.3,
    'b8_experts': 15.3,
    'b8_long': 8.3,
    'b30': 30,
    'b0_4': 0.4,
    'b1_4': 1.4,
    'llama2_7b': 6.74,
    'llama2_70b': 69.0,
    'llama3_8b': 8.0,
}
DEVICES = {'llama2_7b': 64, 'b3': 256, 'b0_4': 64, 'b1_4': 256}  # of the commands in the docstrings; others 512


@pytest.mark.parametrize('made', COUNTS, ids=lambda made: made.__name__)
def test_shapes_parameters_and_mesh(made):
    experiment = made()
    experiment.check()
    batch = shapes_of_batch(experiment)
    devices = DEVICES.get(experiment.name, 512)
    mesh = jax.sharding.AbstractMesh(experiment.mesh.sizes(devices), MESH_AXES)
    check_batch(experiment.batch_size, mesh)
    state = abstract_state(experiment, batch, mesh)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    assert count == COUNTS[made]
    assert count / 1e9 == pytest.approx(SAID[experiment.name], rel=0.07)
    held = sum(math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(state.params))
    assert held < 1.05 * count * mesh.shape['data'] / devices  # nearly all of it is cut over all devices of a replica
    with jax.sharding.use_abstract_mesh(mesh):
        after, metrics = jax.eval_shape(functools.partial(train_step, experiment=experiment), state, batch)
    assert metrics['loss'].shape == ()
    assert jax.tree.map(lambda x: x.shape, after.params) == jax.tree.map(lambda x: x.shape, state.params)
