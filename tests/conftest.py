"""What every test needs before jax and mmjax are imported: eight virtual CPU devices, and shapes checked while tracing.

And what many tests share: random parameters, small tokens, a small batch.
"""

import atexit
import functools
import importlib.metadata
import os
import shutil
import tempfile
import types

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8'.strip()
# Many tests train the same small program: a worker, and what it starts, compiles it once. Workers do not share them: on
# the CPU a ring over devices that was read from a cache, not compiled, can wait for itself forever (JAX 0.10).
os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='mmjax-tests-')
# Compiled two to five times faster, to slower programs: tests compile much and compute little.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = os.environ.get('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
if importlib.metadata.version('jaxlib').startswith('0.10.'):
    # Loops are written as LLVM at once, not over MLIR: compiled a third faster. Later lines do not know the flag.
    os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false'
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import struct
from jaxtyping import install_import_hook

atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)


def _pytree_dataclass(cls: type, **kwargs: Any) -> type:
    # JAX rebuilds a pytree's nodes around shapes, shardings, argument records: whatever its leaves have become.
    cls.__no_type_check__ = True
    return _struct_dataclass(cls, **kwargs)


_struct_dataclass, struct.dataclass = struct.dataclass, _pytree_dataclass
# Linen clones a bound module with its dicts frozen, against their annotation: only methods are checked.
nn.Module.__no_type_check__ = True


def _jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    # No array comes to mmjax.config, and its small functions are called 100,000 times to read the flags of a study:
    # their types are checked as elsewhere, without a record of the shapes of each call, which takes most of the time.
    if fn is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if isinstance(fn, types.FunctionType) and fn.__module__.startswith('mmjax.config'):
        return typechecker(fn)
    return _shapes_and_types(fn, typechecker=typechecker)


_shapes_and_types, jaxtyping.jaxtyped = jaxtyping.jaxtyped, _jaxtyped
install_import_hook('mmjax', 'beartype.beartype')

# Most examples trace or compile something: few of them, no deadline, and the same ones every time.
hypothesis.settings.register_profile('few', max_examples=15, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile('few')


@pytest.fixture(scope='session')
def random_parameters() -> Callable[..., Any]:
    """random_parameters(module, *args, seed=0, dtype='float32', **kwargs): parameters of the shapes that `init` gives.

    Drawn by NumPy, which compiles nothing, and none of them zero, so that no bias, scale or table hides behind its
    initial value.
    """

    def draw(module: nn.Module, *args: Any, seed: int = 0, dtype: str = 'float32', **kwargs: Any) -> Any:
        shapes = nn.meta.unbox(jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)))
        rng = np.random.default_rng(seed)

        def one(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
            around = 1.0 if path[-1].key == 'scale' else 0.0
            return jnp.asarray(around + 0.3 * rng.standard_normal(x.shape), dtype)

        return jax.tree_util.tree_map_with_path(one, shapes)

    return draw


@pytest.fixture(scope='session')
def batch() -> dict[str, jax.Array]:
    """Eight examples: an image of 8x8 bytes; a question of up to 5 ids below 11, some padded; an answer of 4."""
    rng = np.random.default_rng(0)
    text = rng.integers(1, 11, (8, 5))
    text[np.arange(5) >= np.array([5, 4, 3, 2, 5, 1, 4, 3])[:, None]] = 0
    return {
        'image': jnp.asarray(rng.integers(0, 256, (8, 8, 8, 3)), jnp.uint8),
        'text': jnp.asarray(text, jnp.int32),
        'answer': jnp.asarray(rng.integers(0, 4, 8), jnp.int32),
        'weight': jnp.ones(8),
    }
