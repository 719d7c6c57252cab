"""The programs of attention agree with one another, with their gradients, whatever may read what."""

import contextlib
import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as checks

from mmjax.fusion.base import join
from mmjax.nn import kernels
from mmjax.nn import splash as splash_module
from mmjax.nn.kernels import chunked, plain
from mmjax.nn.masks import attention_mask, numbered, passed, reads
from mmjax.nn.splash import splash
from mmjax.sharding import MESH_AXES, MeshShape
from mmjax.types import Order, Tokens, concatenate

B, H = 2, 4


def tokens(length, *, mask=None, segments=None, causal=None):
    x = jnp.zeros((B, length, 1))
    mask = jnp.ones((B, length), bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask), (B, length))
    given = {
        name: jnp.broadcast_to(jnp.asarray(v, jnp.int32), (B, length))
        for name, v in (('segments', segments), ('causal', causal))
        if v is not None
    }
    return Tokens.of(x, mask, **given)


def ragged(length, *counts):
    return np.arange(length) < np.array(counts)[:, None]


N = 300
PACKED = np.repeat([1, 2, 3, 4], [70, 130, 60, 40])
CASES = {
    'all': (tokens(N), None),
    'causal': (tokens(N, causal=np.ones(N)), None),
    'prefix, padded': (tokens(N, causal=np.arange(N) >= 90, mask=ragged(N, 210, 300)), None),
    'one example is absent': (tokens(N, causal=np.ones(N), mask=ragged(N, 0, 300)), None),
    'packed, causal': (tokens(N, causal=np.ones(N), segments=PACKED, mask=ragged(N, 260, 300)), None),
    'packed, image before text': (
        concatenate(
            {
                'a': tokens(140, segments=np.repeat([1, 2], 70)),
                'b': tokens(160, segments=np.repeat([1, 2], [100, 60]), causal=np.ones(160)),
            }
        ),
        None,
    ),
    'text before video': (join({'text': tokens(200, causal=np.ones(200)), 'video': tokens(100)}), None),
    'other tokens': (tokens(N, mask=ragged(N, 200, 300)), tokens(170, mask=ragged(170, 170, 0))),
}


def arrays(n, m, *, width=16, heads_of_keys=H):
    rng = np.random.default_rng(0)
    shapes = [(B, n, H, width), (B, m, heads_of_keys, width), (B, m, heads_of_keys, width)]
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def outcome(kernel, q, k, v, query, key):
    """Its result where a query reads anything, and the gradients of a sum of squares of that."""

    def loss(q, k, v):
        y = jnp.where(reads(query, key)[:, :, None, None], kernel(q, k, v, query, key), 0)
        return (y**2 * jnp.arange(1, y.shape[1] + 1)[None, :, None, None]).sum() / y.shape[1], y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return [y, *grads]


def agree(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(np.abs(b).max()))


@functools.cache
def case_and_outcome(case):
    """What a kernel is given, and what the plain one makes of it, compiled once for all kernels."""
    query, key = CASES[case]
    key = query if key is None else key
    given = (*arrays(query.mask.shape[1], key.mask.shape[1]), query, key)
    return given, outcome(plain, *given)


@pytest.mark.parametrize('case', CASES)
def test_splash_agrees(case):
    given, expected = case_and_outcome(case)
    agree(outcome(functools.partial(splash, interpret=True), *given), expected)


@pytest.mark.parametrize('case', CASES)
def test_chunks_agree(case, monkeypatch):
    given, expected = case_and_outcome(case)
    monkeypatch.setattr(kernels, 'MANY_SCORES', 300_000)
    agree(outcome(chunked, *given), expected)


def test_fewer_heads_of_keys_on_a_mesh_that_cuts_everything():
    query, _ = CASES['packed, causal']
    query = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=0)[:, :296], query)
    given = [jnp.concatenate([x, x])[:, :296] for x in arrays(N, N, heads_of_keys=2)]
    expected = outcome(plain, *given, query, query)
    with jax.set_mesh(MeshShape(data=2, sequence=2, tensor=2).build()):
        agree(outcome(functools.partial(splash, interpret=True), *given, query, query), expected)


@pytest.mark.parametrize(('keys', 'sent'), [(296, 'reduce_scatter'), (295, 'psum')])
def test_gradients_of_keys_are_scattered_where_the_keys_are_cut(keys, sent):
    """A device's gradient is of all keys, and only its part of the sum is wanted; an odd number of keys is not cut."""
    query, key = (jax.tree.map(lambda x, n=n: x[:, :n], CASES['causal'][0]) for n in (296, keys))
    q, k, v = arrays(296, keys)
    expected = outcome(plain, q, k, v, query, key)

    def loss(q, k, v):
        return splash(q, k, v, query, key, interpret=True).sum()

    with jax.set_mesh(MeshShape(data=2, sequence=2, tensor=2).build()):
        agree(outcome(functools.partial(splash, interpret=True), q, k, v, query, key), expected)
        program = str(jax.make_jaxpr(jax.grad(loss, argnums=(1, 2)))(q, k, v))
    found = re.findall(r"(psum|reduce_scatter)\w*\[[^\]]*(?:axes|axis_name)=\('sequence',\)", program)
    assert found == [sent] * 2


def test_blocks_that_nobody_reads_are_left_out():
    below = passed(*[CASES['causal'][0]] * 2)
    needed = splash_module._needed(jnp.zeros_like(below), below, bq=50, bk=50, blocks=6)
    np.testing.assert_array_equal(needed, np.tri(6, dtype=bool))
    np.testing.assert_array_equal(splash_module._fetched(needed, 1)[2], [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(splash_module._fetched(needed, 0)[:, 2], [2, 2, 2, 3, 4, 5])


@pytest.mark.parametrize('case', CASES)
def test_numbers_say_what_the_mask_says(case):
    query, key = CASES[case]
    key = query if key is None else key
    of_queries, of_keys = numbered(query, key)
    same = query.segments[:, :, None] == key.segments[:, None, :]
    allowed = same & query.mask[:, :, None] & key.mask[:, None, :]
    expected = np.asarray(attention_mask(query, key))
    np.testing.assert_array_equal(allowed & (of_keys[:, None, :] <= of_queries[:, :, None]), expected)
    np.testing.assert_array_equal(reads(query, key), expected.any(axis=-1))
    if key.order is not Order.UNKNOWN:
        for asker in (query, query.replace(values=query.values)):  # of the same tokens there is a shorter way
            below = passed(asker, asker if query is key else key)[:, :, None]
            np.testing.assert_array_equal(allowed & (np.arange(key.mask.shape[1]) < below), expected)


ODD, EVEN = 197, 198  # a class token more than the patches of an image, or not


@pytest.mark.parametrize(
    ('capability', 'version', 'shape', 'expected'),
    [
        ('9.0', 91000, (EVEN, EVEN, 64), 'cudnn'),
        ('8.0', 91000, (EVEN, 2 * ODD, 128), 'cudnn'),
        ('9.0', 91000, (ODD, ODD, 64), 'plain'),
        ('9.0', 91000, (EVEN, ODD, 64), 'plain'),
        ('9.0', 91000, (ODD, EVEN, 64), 'plain'),
        ('9.0', 91000, (EVEN, EVEN, 60), 'plain'),
        ('9.0', 91000, (EVEN, EVEN, 136), 'plain'),
        ('7.5', 91000, (EVEN, EVEN, 64), 'plain'),
        ('10.0', 91000, (EVEN, EVEN, 64), 'cudnn'),
        ('10.3', 91000, (EVEN, EVEN, 64), 'plain'),
        ('10.3', 91100, (EVEN, EVEN, 64), 'cudnn'),
        ('gfx942', 91100, (EVEN, EVEN, 64), 'plain'),
        ('9.0', None, (EVEN, EVEN, 64), 'plain'),
        ('9.0', 91000, (20_001, 20_001, 64), 'chunked'),
    ],
)
def test_cudnn_is_chosen_where_it_takes_what_there_is(monkeypatch, capability, version, shape, expected):
    """And JAX's own check of it takes what was chosen: it refuses the rest when the program is traced."""
    known = version and SimpleNamespace(cudnn_get_version=lambda: version)
    monkeypatch.setattr(kernels, 'cuda_versions', known)
    monkeypatch.setattr(kernels, 'platform', lambda: 'gpu')
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(jax, 'local_devices', lambda: [SimpleNamespace(compute_capability=capability)])
    n, m, width = shape
    q, k = (jax.ShapeDtypeStruct((2, length, 4, width), jnp.bfloat16) for length in (n, m))
    found = []
    jax.eval_shape(lambda q, k: found.append(kernels.chosen(q, k).__name__), q, k)
    assert found == [expected]
    if expected == 'cudnn' or n % 2 or m % 2:
        numbers = tuple(map(int, capability.split('.')))
        monkeypatch.setattr(
            checks, 'check_compute_capability', lambda least: numbers >= tuple(map(int, least.split('.')))
        )
        monkeypatch.setattr(
            checks, 'is_cuda_compute_capability_equal', lambda other: numbers == tuple(map(int, other.split('.')))
        )
        refused = contextlib.nullcontext() if expected == 'cudnn' else pytest.raises(NotImplementedError)
        with refused:
            checks.check_is_flash_attention(q, k, k, checks.AttentionLayout.BTNH.value, version, True, True)


def test_what_is_known_of_the_order():
    known = {name: (query if key is None else key).order for name, (query, key) in CASES.items()}
    rising = {'causal', 'prefix, padded', 'one example is absent'}
    assert {name for name, order in known.items() if order is Order.RISING} == rising
    assert {name for name, order in known.items() if order is Order.FLAT} == {'all', 'other tokens'}
    image, text = tokens(3), tokens(4, causal=np.ones(4))
    assert join({'image': image, 'text': text}).order is concatenate({'a': image, 'b': text}).order is Order.RISING
    assert text.replace(segments=text.segments + 1).order is Order.UNKNOWN


@pytest.mark.parametrize(
    ('where', 'length', 'dtype', 'expected'),
    [
        ('cpu', 300, 'float32', 'plain'),
        ('cpu', 8192, 'float32', 'chunked'),
        ('tpu', 300, 'bfloat16', 'plain'),
        ('tpu', 8192, 'bfloat16', 'splash'),
        ('cuda', 300, 'bfloat16', 'plain'),  # of a plan: what is not here has no cuDNN to be asked
    ],
)
def test_the_choice(monkeypatch, where, length, dtype, expected):
    monkeypatch.setattr(kernels, 'platform', lambda: where)
    x = jnp.zeros((4, length, 4, 64), dtype)
    assert kernels.chosen(x, x).__name__ == expected


def test_the_choice_is_by_what_a_device_has(monkeypatch):
    """A batch of a pod's two towers: 32,768 images of 256 tokens, 128 for a device."""
    monkeypatch.setattr(kernels, 'platform', lambda: 'tpu')
    x = jax.ShapeDtypeStruct((32_768, 256, 16, 88), 'bfloat16')
    mesh = jax.sharding.AbstractMesh(MeshShape(data=4, fsdp=64).sizes(256), MESH_AXES)
    with jax.sharding.use_abstract_mesh(mesh):
        chosen = []
        jax.eval_shape(lambda x: chosen.append(kernels.chosen(x, x).__name__), x)
    assert chosen == ['plain']


def inside(equation):
    """The programs that an equation holds."""
    held = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, 'eqns') or hasattr(x, 'jaxpr'))
    return [getattr(x, 'jaxpr', x) for x in held if hasattr(x, 'eqns') or hasattr(x, 'jaxpr')]


def largest(jaxpr):
    """Numbers of the largest array that a program makes, within its loops too."""
    sizes = [out.aval.size for equation in jaxpr.eqns for out in equation.outvars]
    return max([*sizes, *(largest(inner) for equation in jaxpr.eqns for inner in inside(equation)), 0])


def test_chunks_make_no_matrix_of_all_scores():
    query, n = CASES['causal'][0], 4096
    query = jax.tree.map(lambda x: jnp.zeros((B, n, *x.shape[2:]), x.dtype), query)
    given = [jnp.zeros(shape) for shape in [(B, n, H, 16)] * 3]

    def made(kernel):
        loss = jax.grad(lambda q, k, v: kernel(q, k, v, query, query).sum(), argnums=(0, 1, 2))
        return largest(jax.make_jaxpr(loss)(*given).jaxpr)

    assert made(plain) == B * H * n * n
    assert made(chunked) <= max(B * H * n * n / 16, B * n * H * 16)
