"""The programs whose compiled texts lie in tests/plan/data, and what makes them.

    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m tests.plan.texts [NAME ...]

Those that are committed were made on a CPU with jax 0.12.0.1 and libtpu 0.0.52, `gpu` with jax-cuda13-plugin and
jax-cuda13-pjrt 0.12.0.1 and the `ptxas` of CUDA 13. Taken out of each text: the table of
source files, and of Pallas calls the compiled kernel and its source locations.
"""

import functools
import gzip
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

DATA = Path(__file__).parent / 'data'

# Of the train step: layers, width, MLP, heads, head_dim, batch, length, vocabulary; its mesh; parameters of a layer.
L, D, F, H, K, B, N, V = 4, 1024, 4096, 8, 128, 16, 512, 2048
STEP_MESH = {'fsdp': 4, 'tensor': 2}
LAYER = 4 * D * H * K + 2 * D * F

P, S = PartitionSpec, jax.ShapeDtypeStruct


def read(name: str) -> str:
    with gzip.open(DATA / f'{name}.txt.gz', 'rt') as file:
        return file.read()


def mesh(topology: str, axes: dict[str, int], *, wrap: bool = False, **options: Any) -> Mesh:
    devices = topologies.get_topology_desc(platform='tpu', topology_name=topology, wrap=(wrap,) * 3, **options).devices
    if len(devices) > 1:
        devices = mesh_utils.create_device_mesh(tuple(axes.values()), devices=devices)
    return Mesh(np.array(devices).reshape(tuple(axes.values())), tuple(axes))


def layers(*, scanned: bool, depth: int = 8) -> Any:
    """Eight pairs of products, as a loop or written out."""
    one = NamedSharding(mesh('v5e:1x1', {'x': 1}, chips_per_host_bounds=(1, 1, 1)), P())

    def layer(h, w):
        return h + jnp.tanh(h @ w[0]) @ w[1]

    def apply(h, w):
        if scanned:
            return jax.lax.scan(lambda h, w: (layer(h, w), None), h, w)[0]
        for i in range(depth):
            h = layer(h, (w[0][i], w[1][i]))
        return h

    up, down = (S((depth, *shape), 'bfloat16', sharding=one) for shape in ((2048, 8192), (8192, 2048)))
    return jax.jit(apply).lower(S((4096, 2048), 'bfloat16', sharding=one), (up, down))


def gather64(*, wrap: bool) -> Any:
    """A GiB, from 64 devices to all of them."""
    torus = mesh('v5p:4x4x4', {'x': 64}, wrap=wrap)
    x = S((1 << 15, 1 << 14), 'bfloat16', sharding=NamedSharding(torus, P('x')))
    return jax.jit(lambda x: x, out_shardings=NamedSharding(torus, P())).lower(x)


def step(*, topology: str) -> Any:
    """A step of a decoder, f32 parameters, bf16 products, layers made again in the backward pass."""
    torus = mesh(topology, STEP_MESH)

    def put(x, *axes):
        return jax.lax.with_sharding_constraint(x, NamedSharding(torus, P(*axes)))

    def layer(h, w):
        w = jax.tree.map(lambda x: x.astype('bfloat16'), w)
        x = h * jax.lax.rsqrt((h.astype('float32') ** 2).mean(-1, keepdims=True) + 1e-6).astype(h.dtype)
        q, k, v = (put(jnp.einsum('bnd,dhk->bnhk', x, w['qkv'][i]), 'fsdp', None, 'tensor') for i in range(3))
        scores = jnp.einsum('bnhk,bmhk->bhnm', q, k)
        probabilities = jax.nn.softmax(scores.astype('float32'), -1).astype('bfloat16')
        o = jnp.einsum('bhnm,bmhk->bnhk', probabilities, v)
        h = put(h + jnp.einsum('bnhk,hkd->bnd', o, w['out']), 'fsdp')
        u = put(jax.nn.gelu(h @ w['up']), 'fsdp', None, 'tensor')
        return put(h + u @ w['down'], 'fsdp'), None

    def loss(params, tokens):
        embed = params['embed'].astype('bfloat16')
        h = jax.lax.scan(jax.checkpoint(layer), put(embed[tokens], 'fsdp'), params['layers'])[0]
        logits = put(jnp.einsum('bnd,vd->bnv', h, embed).astype('float32'), 'fsdp', None, 'tensor')
        return -jnp.mean(jax.nn.log_softmax(logits)[..., 0])

    def update(params, tokens):
        value, grads = jax.value_and_grad(loss)(params, tokens)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads), value

    inner = {
        'qkv': S((L, 3, D, H, K), 'float32', sharding=NamedSharding(torus, P(None, None, 'fsdp', 'tensor'))),
        'out': S((L, H, K, D), 'float32', sharding=NamedSharding(torus, P(None, 'tensor', None, 'fsdp'))),
        'up': S((L, D, F), 'float32', sharding=NamedSharding(torus, P(None, 'fsdp', 'tensor'))),
        'down': S((L, F, D), 'float32', sharding=NamedSharding(torus, P(None, 'tensor', 'fsdp'))),
    }
    params = {'embed': S((V, D), 'float32', sharding=NamedSharding(torus, P('tensor', 'fsdp'))), 'layers': inner}
    tokens = S((B, N), 'int32', sharding=NamedSharding(torus, P('fsdp')))
    where = (jax.tree.map(lambda x: x.sharding, params), None)
    return jax.jit(update, donate_argnums=0, out_shardings=where).lower(params, tokens)


def splash() -> Any:
    """Gradient of 3 layers of causal attention by JAX's Pallas kernel: 8 rows of 1024 tokens, 8 heads of 128."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    torus = mesh('v5e:2x4', STEP_MESH)
    causal = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((1024, 1024))] * 4)
    kernel = splash_attention_kernel.make_splash_mha(causal, head_shards=1, q_seq_shards=1)
    cut = P('fsdp', 'tensor')

    def layer(h, w):
        qkv = jnp.einsum('bnd,dchk->cbhnk', h, w)
        o = jax.shard_map(jax.vmap(kernel), mesh=torus, in_specs=cut, out_specs=cut, check_vma=False)(*qkv)
        return h + jnp.einsum('bhnk,dhk->bnd', o, w[:, 0]).astype(h.dtype), None

    def loss(w, x):
        return jax.lax.scan(jax.checkpoint(layer), x, w)[0].astype('float32').sum()

    w = S((3, 512, 3, 8, 128), 'bfloat16', sharding=NamedSharding(torus, P(None, 'fsdp', None, 'tensor')))
    return jax.jit(jax.grad(loss)).lower(w, S((8, 1024, 512), 'bfloat16', sharding=NamedSharding(torus, P('fsdp'))))


def slices() -> Any:
    """A sum over 4 slices of 4 chips, and an exchange and a shift between the slices."""
    devices = topologies.get_topology_desc(
        platform='tpu', topology_name='v5e:2x2', wrap=(False,) * 3, num_slices=4
    ).devices
    torus = Mesh(mesh_utils.create_hybrid_device_mesh((1, 4), (4, 1), devices=devices), ('slices', 'fsdp'))
    cut = P(('slices', 'fsdp'))

    def local(x):
        total = jax.lax.psum(x, ('slices', 'fsdp'))
        exchanged = jax.lax.all_to_all(x, 'slices', 0, 0, tiled=True)
        return total, exchanged, jax.lax.ppermute(x, 'slices', [(i, (i + 1) % 4) for i in range(4)])

    program = jax.shard_map(local, mesh=torus, in_specs=cut, out_specs=cut, check_vma=False)
    return jax.jit(program).lower(S((4096, 512), 'bfloat16', sharding=NamedSharding(torus, cut)))


# What XLA has to know of a GPU that is not there: an H100 (SXM), of NVIDIA's data sheet.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048  core_count: 132  fpus_per_core: 128
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  clock_rate_ghz: 1.98  device_memory_size: 84978434048
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"  runtime_version { major: 13 minor: 0 }  dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def exchanges(torus: Mesh, *, turns: int = 6, width: int = 1024, rows: int = 2048, dtype: str = 'bfloat16') -> Any:
    """A loop of gather, product, sum and shift; behind it a scattered sum, an exchange and a sum of all."""

    def turn(h, w):
        h = jax.lax.psum(jnp.tanh(h @ jax.lax.all_gather(w, 'fsdp', tiled=True)), 'tensor')
        return jax.lax.ppermute(h, 'fsdp', [(i, (i + 1) % 4) for i in range(4)]), None

    def local(w, h):
        h = jax.lax.scan(turn, h, w)[0]
        scattered, total = jax.lax.psum_scatter(h, 'fsdp', tiled=True), jax.lax.psum(h, ('fsdp', 'tensor'))
        return h, scattered, total, jax.lax.all_to_all(h, 'fsdp', 0, 0, tiled=True)

    cut = P('fsdp')
    program = jax.shard_map(
        local, mesh=torus, in_specs=(P(None, 'fsdp'), cut), out_specs=(cut, cut, P(), cut), check_vma=False
    )
    w = S((turns, width, width), dtype, sharding=NamedSharding(torus, P(None, 'fsdp')))
    return jax.jit(program).lower(w, S((rows, width), dtype, sharding=NamedSharding(torus, cut)))


def gpu() -> Any:
    devices = topologies.get_topology_desc(
        platform='cuda', topology_name='H100', target_config=H100, topology='1x1x8'
    ).devices
    return exchanges(Mesh(np.array(devices).reshape(4, 2), tuple(STEP_MESH)))


PROGRAMS: dict[str, Callable[[], Any]] = {
    'layers_scanned': functools.partial(layers, scanned=True),
    'layers_unrolled': functools.partial(layers, scanned=False),
    'gather64': functools.partial(gather64, wrap=True),
    'gather64_no_wrap': functools.partial(gather64, wrap=False),
    'step_v5e': functools.partial(step, topology='v5e:2x4'),
    'step_v6e': functools.partial(step, topology='v6e:2x4'),
    'splash': splash,
    'slices': slices,
    'gpu': gpu,
}


def shortened(text: str) -> str:
    text = re.sub(r'\nFileNames\n.*?\n\n\n', '\n', text, flags=re.DOTALL)
    return re.sub(r'("body"|"debug_locations"):"[^"]*"', r'\1:""', text)


if __name__ == '__main__':
    for name in sys.argv[1:] or PROGRAMS:
        text = shortened(PROGRAMS[name]().compile().as_text())
        with gzip.GzipFile(DATA / f'{name}.txt.gz', 'wb', mtime=0) as file:
            file.write(text.encode())
        print(name, len(text), (DATA / f'{name}.txt.gz').stat().st_size)
