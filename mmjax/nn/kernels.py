"""The programs that compute attention, and which of them is taken. They agree: tests/nn/test_kernels.py."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mmjax.nn.masks import attention_mask, numbered
from mmjax.nn.splash import splash
from mmjax.sharding import platform
from mmjax.types import Tokens

Heads = Float[Array, 'b n h k']
Keys = Float[Array, 'b m g k']
Kernel = Callable[[Heads, Keys, Keys, Tokens, Tokens], Heads]

MANY_SCORES = 2**28  # numbers; beyond, whole matrices of them are not kept
LONG = 1024  # tokens, from which on a kernel is worth its call


def chosen(q: Heads, k: Keys) -> Kernel:
    """The kernel for queries and keys of these shapes and the devices that the program is for."""
    (b, n, h, width), m = q.shape, k.shape[1]
    where = platform()
    if where == 'tpu' and min(n, m) >= LONG:
        return splash
    # A plan for GPUs that are not here cannot ask which cuDNN they have.
    here = where in ('gpu', 'cuda') and jax.default_backend() == 'gpu'
    if here and q.dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= 128:
        return cudnn
    return chunked if b * h * n * m > MANY_SCORES else plain


def plain(q: Heads, k: Keys, v: Keys, query: Tokens, key: Tokens) -> Heads:
    """All scores at once, by XLA."""
    return _library(q, k, v, attention_mask(query, key), 'xla')


def cudnn(q: Heads, k: Keys, v: Keys, query: Tokens, key: Tokens) -> Heads:
    """NVIDIA's fused attention, for 16-bit numbers; the mask is given to it as a matrix."""
    return _library(q, k, v, attention_mask(query, key), 'cudnn')


def chunked(q: Heads, k: Keys, v: Keys, query: Tokens, key: Tokens) -> Heads:
    """Some queries at a time, whose scores are computed again in the backward pass (Rabe & Staats 2021): memory grows
    with the length, not with its square. For devices without a kernel of their own.
    """
    b, n, h, _ = q.shape
    fitting = (c for c in range(1, n + 1) if n % c == 0 and b * h * n * k.shape[1] <= c * MANY_SCORES // 32)
    parts, (of_queries, of_keys) = next(fitting, n), numbered(query, key)

    @jax.checkpoint
    def one(part: tuple[Array, ...]) -> Array:
        q, real, segments, number = part
        mask = real[:, :, None] & key.mask[:, None, :] & (segments[:, :, None] == key.segments[:, None, :])
        return _library(q, k, v, mask & (of_keys[:, None, :] <= number[:, :, None]), 'xla')

    asked = (q, query.mask, query.segments, of_queries)
    # Strided, so that a part has its share of the queries of every device.
    cut = [rearrange(x, 'b (n parts) ... -> parts b n ...', parts=parts) for x in asked]
    return rearrange(jax.lax.map(one, tuple(cut)), 'parts b n h k -> b (n parts) h k')


def _library(q: Heads, k: Keys, v: Keys, mask: Bool[Array, 'b n m'], implementation: str) -> Heads:
    mask = rearrange(mask, 'b n m -> b 1 n m')
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation=implementation)  # pyright: ignore
