"""Packed rows: several examples in one, each as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.fusion.early import Early
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.masks import attention_mask
from mmjax.nn.positions import Learned
from mmjax.types import Tokens
from mmjax.views.absent import Without

BLOCK = Block(attention=Attention(heads=2))
MODEL = Model(
    {
        'image': PatchEncoder(width=16, patch=4, depth=1, block=BLOCK),
        'text': TokenEncoder(vocabulary=11, width=16, depth=1, block=BLOCK, positions=Learned(length=5)),
    },
    Early(depth=2, block=BLOCK),
    {'text': TokenLogits(vocabulary=11)},
)
TEXTS = ((3, 4, 5, 6), (7, 8, 9), (2, 10))
PREFIX = (2, 1, 0)  # words that read one another; each later one reads all before it
HAS_IMAGE = (True, False, True)


def images():
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def alone():
    """Three rows of one example each, filled up to five words."""
    text, causal = np.zeros((3, 5), np.int32), np.zeros((3, 5), np.int32)
    for row, (words, prefix) in enumerate(zip(TEXTS, PREFIX, strict=True)):
        text[row, : len(words)], causal[row, prefix : len(words)] = words, 1
    row = {'text': text, 'text/causal': causal, 'image': images(), 'image/present': np.array(HAS_IMAGE)}
    return jax.tree.map(jnp.asarray, row)


def packed():
    """One row of all three: nine words, more than there are positions, and images in an order of their own."""
    words = [word for text in TEXTS for word in text]
    segments = [number for number, text in enumerate(TEXTS, 1) for _ in text]
    causal = [int(i >= prefix) for text, prefix in zip(TEXTS, PREFIX, strict=True) for i in range(len(text))]
    order = [2, 0, 1]
    row = {
        'text': np.array([words], np.int32),
        'text/segments': np.array([segments], np.int32),
        'text/positions': np.array([[i for text in TEXTS for i in range(len(text))]], np.int32),
        'text/causal': np.array([causal], np.int32),
        'image': images()[order][None],
        'image/segments': np.array([order], np.int32) + 1,
        'image/present': np.array([HAS_IMAGE])[:, order],
    }
    return jax.tree.map(jnp.asarray, row)


def test_a_packed_row_gives_what_its_examples_give_alone(random_parameters):
    params = random_parameters(MODEL, alone())
    apply = jax.jit(MODEL.apply)
    apart, together = np.asarray(apply(params, alone())['text']), np.asarray(apply(params, packed())['text'])[0]
    start = 0
    for row, words in enumerate(TEXTS):
        np.testing.assert_allclose(together[start : start + len(words)], apart[row, : len(words)], atol=2e-5)
        start += len(words)


def test_no_gradient_crosses_between_neighbours(random_parameters):
    params, row = random_parameters(MODEL, packed()), packed()
    row['image'] = row['image'].astype(jnp.float32) / 255

    def told(image, row):
        return jnp.square(MODEL.apply(params, row | {'image': image})['text'][0, 4:7]).sum()  # of the second example

    gradient = jax.jit(jax.grad(told))
    assert not gradient(row['image'], row).any()  # which has no image
    present = row | {'image/present': jnp.ones((1, 3), bool)}
    reached = np.asarray(gradient(row['image'], present)).any(axis=(0, 2, 3, 4))
    np.testing.assert_array_equal(reached, row['image/segments'][0] == 2)


def test_a_view_takes_the_items_of_a_packed_row_away():
    gone = Without(('image',))(packed(), jax.random.key(0))
    assert gone['image/present'].tolist() == [[False] * 3]
    assert not MODEL.present('image', gone).any()


def test_counts_start_again_with_each_example():
    causal, segments = jnp.array([[0, 1, 1, 0, 0, 1, 1]]), jnp.array([[1, 1, 1, 2, 2, 2, 3]])
    tokens = Tokens.of(jnp.zeros((1, 7, 2)), jnp.ones((1, 7), bool), segments=segments, causal=causal)
    np.testing.assert_array_equal(jnp.cumsum(tokens.causal, axis=1), [[0, 1, 2, 0, 0, 1, 1]])
    reads = np.asarray(attention_mask(tokens, tokens))[0]
    expected = [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(reads, np.array(expected, bool))
