"""Flash attention on TPUs: JAX's splash kernel, told by a few numbers a token which keys it may read."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from mmjax.nn.masks import numbered, passed
from mmjax.sharding.mapped import Place, here, shard_mapped
from mmjax.types import Order, Tokens

LANES = 128  # numbers in a row of a TPU's registers: widths and blocks are multiples of it
BLOCK = 512  # queries and keys at a time, where the length has so many

NOBODY = -1  # the segment of keys that are padding


def splash(
    q: Float[Array, 'b n h k'],
    k: Float[Array, 'b m g k'],
    v: Float[Array, 'b m g k'],
    query: Tokens,
    key: Tokens,
    *,
    interpret: bool = False,
) -> Float[Array, 'b n h k']:
    """Attention by blocks that are never written out (Dao et al. 2022), without those that no query of the device's
    examples may read. Of a query that may read no key the result is finite and means nothing.

    The kernel knows keys by their places, so they must stand in the order of their numbers (`masks.numbered`). Where
    `Tokens.order` does not say that they do, the program looks, and sorts them if need be.

    interpret: run the kernel on a CPU, slowly.
    """
    heads = ('batch', 'length', 'heads', 'head_dim')
    # Of keys that are cut a device is given its part, and gathers the others: so their gradients, which each device has
    # of all keys, are summed and scattered at once. Those of keys that it is given whole are summed whole. (So are
    # those of 131,072 keys, 128 wide, all the same: libtpu 0.0.52 scatters long arrays along their outermost dimension
    # alone, and to move the length there takes about as long as it saves.)
    cut = k.shape[1] % here().parts('length') == 0
    held = ('batch', 'length' if cut else 'keys', 'heads' if k.shape[2] > 1 else None, 'head_dim')
    asked, told = ('batch', 'length'), ('batch', 'keys')
    key_segments = jnp.where(key.mask, key.segments, NOBODY)
    if key.order is Order.UNKNOWN:
        of_queries, of_keys = numbered(query, key)
        lowest = of_queries - jnp.cumsum(query.causal, axis=1) - q.shape[1] - k.shape[1]  # of its segment
        local, arrays, axes = (
            _looked,
            (query.segments, of_queries, lowest, key_segments, of_keys),
            [*[asked] * 3, told, told],
        )
    else:
        local, arrays, axes = _ordered, (query.segments, passed(query, key), key_segments), [asked, asked, told]
    local = functools.partial(local, interpret=interpret)
    run = functools.partial(_gathered, local) if cut else local
    return shard_mapped(run, [heads, held, held, *axes], [heads])(q, k, v, *arrays)[0]


def _gathered(
    local: Callable[..., tuple[Array]], place: Place, q: Array, k: Array, v: Array, *arrays: Array
) -> tuple[Float[Array, 'b n h k']]:
    """`local` with the keys and values of all devices along the length."""
    k, v = (place.gather(x, 'length', dim=1) for x in (k, v))
    return local(place, q, k, v, *arrays)


def read_share(tokens: Tokens, *, parts: int = 1) -> float:
    """Of all blocks of tokens that read one another, those that the kernel goes through: on that one of `parts`
    devices, each of which has its part of the queries, that goes through most. Of several rows, what any of them needs.
    """
    of_queries, of_keys = numbered(tokens, tokens)
    lowest = of_queries - jnp.cumsum(tokens.causal, axis=1) - 2 * tokens.mask.shape[1]
    of_keys = jnp.sort(of_keys, axis=1)
    below = jax.vmap(functools.partial(jnp.searchsorted, side='right'))(of_keys, of_queries)
    first = jax.vmap(jnp.searchsorted)(of_keys, lowest)
    shares = []
    for low, high in zip(*(jnp.split(x, parts, axis=1) for x in (first, below)), strict=True):
        bq, bk = _block(low.shape[1]), _block(of_keys.shape[1])
        low, high = (_padded(x, axis=1, to=bq) for x in (low, high))
        shares.append(_needed(low, high, bq=bq, bk=bk, blocks=-(-of_keys.shape[1] // bk)).mean())
    return float(max(shares))


def padded_length(length: int) -> int:
    """What the kernel makes of it, in whole blocks."""
    return -(-length // _block(length)) * _block(length)


def _looked(
    place: Place,
    q: Float[Array, 'b n h k'],
    k: Float[Array, 'b m g k'],
    v: Float[Array, 'b m g k'],
    query_segments: Int[Array, 'b n'],
    of_queries: Int[Array, 'b n'],
    lowest: Int[Array, 'b n'],
    key_segments: Int[Array, 'b m'],
    of_keys: Int[Array, 'b m'],
    *,
    interpret: bool,
) -> tuple[Float[Array, 'b n h k']]:
    """The same where the keys may stand in any order."""

    def arranged(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        order = jnp.argsort(arrays[-1], axis=1, stable=True)
        return tuple(jnp.take_along_axis(x, order[(..., *(None,) * (x.ndim - 2))], axis=1) for x in arrays)

    inorder = (jnp.diff(of_keys, axis=1) >= 0).all()
    k, v, key_segments, of_keys = jax.lax.cond(inorder, lambda x: x, arranged, (k, v, key_segments, of_keys))
    below = jax.vmap(functools.partial(jnp.searchsorted, side='right'))(of_keys, of_queries).astype(jnp.int32)
    first = jax.vmap(jnp.searchsorted)(of_keys, lowest).astype(jnp.int32)
    return _ordered(place, q, k, v, query_segments, below, key_segments, first, interpret=interpret)


def _ordered(
    _: Place,
    q: Float[Array, 'b n h k'],
    k: Float[Array, 'b m g k'],
    v: Float[Array, 'b m g k'],
    query_segments: Int[Array, 'b n'],
    below: Int[Array, 'b n'],
    key_segments: Int[Array, 'b m'],
    first: Int[Array, 'b n'] | None = None,
    *,
    interpret: bool,
) -> tuple[Float[Array, 'b n h k']]:
    """first, below: of which keys on, and up to which, there are any that a query may read; None: from the first."""
    n, width, dtype = q.shape[1], q.shape[-1], q.dtype
    bq, bk = _block(n), _block(k.shape[1])
    first = jnp.zeros_like(below) if first is None else first
    q = _padded(_padded(q * width**-0.5, axis=1, to=bq), axis=3, to=LANES).astype(dtype)
    k, v = (_padded(_padded(x, axis=1, to=bk), axis=3, to=LANES) for x in (k, v))
    query_segments, below, first = (_padded(x, axis=1, to=bq) for x in (query_segments, below, first))
    key_segments = _padded(key_segments, axis=1, to=bk, value=NOBODY)
    needed = _needed(first, below, bq=bq, bk=bk, blocks=k.shape[1] // bk)
    run = functools.partial(_kernel, needed=needed, bq=bq, bk=bk, interpret=interpret)
    q, k, v = (rearrange(x, 'b n h k -> b h n k') for x in (q, k, v))
    y = rearrange(jax.vmap(run)(q, k, v, query_segments, key_segments, below), 'b h n k -> b n h k')
    return (y[:, :n, :, :width],)


def _needed(first: Int[Array, 'b n'], below: Int[Array, 'b n'], *, bq: int, bk: int, blocks: int) -> Bool[Array, 'i j']:
    """Which blocks of queries read any of which blocks of keys, in any example: those from `first` to `below`."""
    first, below = (rearrange(x, 'b (i q) -> b i q', q=bq) for x in (first, below))
    low, high = first.min(axis=2)[:, :, None], below.max(axis=2)[:, :, None]
    start = jnp.arange(blocks) * bk
    needed = ((start < high) & (start + bk > low)).any(axis=0)
    # Queries of which none reads anything have a block all the same: the kernel divides by a sum over what it has read.
    return needed.at[:, 0].set(needed[:, 0] | ~needed.any(axis=1))


def _kernel(
    q: Float[Array, 'h n k'],
    k: Float[Array, 'g m k'],
    v: Float[Array, 'g m k'],
    query_segments: Int[Array, 'n'],
    key_segments: Int[Array, 'm'],
    below: Int[Array, 'n'],
    *,
    needed: Bool[Array, 'i j'],
    bq: int,
    bk: int,
    interpret: bool,
) -> Float[Array, 'h n k']:
    # Imported here: it brings Pallas along, which takes a second, and only programs for TPUs need it.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as library
    from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

    def told(axis: int) -> MaskInfo:
        """axis: 1: to a kernel that goes over keys; 0: to one that goes over queries."""
        return MaskInfo(_fetched(needed, axis)[None], None, needed.astype(jnp.int32)[None], None, below)  # pyright: ignore

    kernel = library.SplashAttentionKernel(
        told(1),
        told(1),
        told(0),
        block_sizes=library.BlockSizes(bq, bk, bk, bq, bk, bk, bq, bk),
        is_mqa=False,
        save_residuals=False,
        mask_value=library.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name='attended',
        mask_function=_reads,
        interpret=interpret,
    )
    return kernel(q, k, v, library.SegmentIds(query_segments, key_segments))  # pyright: ignore


def _reads(below: Array, place: Array) -> Array:
    return place < below


def _fetched(needed: Bool[Array, 'i j'], axis: int) -> Int[Array, 'i j']:
    """Which block is in memory at each step: of one that is left out the last before it, so that nothing is moved."""
    places = jax.lax.broadcasted_iota(jnp.int32, needed.shape, axis)
    last = jax.lax.cummax(jnp.where(needed, places, -1), axis=axis)
    return jnp.where(last >= 0, last, jnp.argmax(needed, axis=axis, keepdims=True).astype(jnp.int32))


def _block(length: int) -> int:
    """The largest block, of a power of two rows of registers, that adds least to a length."""
    whole = -(-length // LANES) * LANES
    return next(block for block in (BLOCK, BLOCK // 2, LANES) if whole % block == 0)


def _padded(x: Array, *, axis: int, to: int, value: int = 0) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % to)
    return jnp.pad(x, widths, constant_values=value) if widths[axis][1] else x
