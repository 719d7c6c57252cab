"""The programs that compute attention, and which of them is taken. They agree: tests/nn/test_kernels.py."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange

# What JAX itself asks for the version of cuDNN; there is no public name for it.
from jax._src.lib import cuda_versions
from jaxtyping import Array, Bool, Float

from mmjax.nn.masks import attention_mask, numbered
from mmjax.nn.splash import splash
from mmjax.sharding import platform
from mmjax.sharding.mapped import here
from mmjax.types import Tokens

Heads = Float[Array, 'b n h k']
Keys = Float[Array, 'b m g k']
Kernel = Callable[[Heads, Keys, Keys, Tokens, Tokens], Heads]

MANY_SCORES = 2**28  # numbers; beyond, whole matrices of them are not kept
LEAST = 64  # queries of a part
LONG = 1024  # tokens, from which on a kernel is worth its call


def chosen(q: Heads, k: Keys) -> Kernel:
    """The kernel for queries and keys of these shapes and the devices that the program is for."""
    place, (_, n, _, width), m = here(), q.shape, k.shape[1]
    where, cut = platform(), place.parts('length') > 1 or k.shape[2] < place.parts('heads')
    if where == 'tpu' and min(n, m) >= LONG:
        return splash
    # A plan for GPUs that are not here cannot ask which cuDNN they have.
    asks = where in ('gpu', 'cuda') and jax.default_backend() == 'gpu'
    # And it takes queries, keys and values that are cut alike, and a mask of even sides alone.
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and width % 8 == 0 and width <= 128 and n % 2 == m % 2 == 0
    if asks and not cut and fits and _has_cudnn():
        return cudnn
    return chunked if _scores(q, k) > MANY_SCORES else plain


def _has_cudnn() -> bool:
    """Whether the GPUs of this process have cuDNN's attention: NVIDIA's from Ampere on (compute capability 8.0)."""
    told = re.fullmatch(r'(\d+)\.(\d+)', str(getattr(jax.local_devices()[0], 'compute_capability', '')))
    if not told or cuda_versions is None:  # AMD's names are of another kind
        return False
    capability = int(told[1]), int(told[2])
    return capability >= (8, 0) and (capability != (10, 3) or cuda_versions.cudnn_get_version() >= 91100)


def _scores(q: Heads, k: Keys) -> float:
    """How many scores a device has."""
    (b, n, h, _), m, place = q.shape, k.shape[1], here()
    return b * n * h * m / (place.parts('batch') * place.parts('length') * place.parts('heads'))


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
    # Each part has queries of every device that the length lies on, and some of them: one at a time takes forever.
    n = q.shape[1]
    cuts = [c for c in range(1, n + 1) if n % (c * here().parts('length')) == 0 and (c == 1 or n // c >= LEAST)]
    parts = next((c for c in cuts if _scores(q, k) <= c * MANY_SCORES / 32), cuts[-1])
    of_queries, of_keys = numbered(query, key)

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
