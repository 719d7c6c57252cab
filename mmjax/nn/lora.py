"""LoRA: what a module learns anew is of low rank, beside weights that stay.

    y = x W + b + alpha / rank (x A) B          Hu et al. 2021, "LoRA", section 4.1

B starts at 0, so that a fresh wrapper is the module it wraps, bit for bit. Its parameters keep the paths that they have
without the wrapper, and A and B stand beside their kernel, as `lora/a` and `lora/b`: `InitFrom` needs no map, and
`AdamW(rates={'encoders_text': 0.0, '*/lora': 1.0})` trains the adapters of an encoder alone.
"""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.errors import UserError, nearest
from mmjax.nn.dense import Dense
from mmjax.nn.parameter import parameter


class Lora(nn.Module, kw_only=True):
    """Base of the wrappers of an encoder, a fusion, a decoder: each says what `module` is.

    rank: of the product A B. alpha: its factor is alpha / rank. targets: names of the `Dense` layers inside, `*` for
    any characters; the default is what the authors chose: the maps to queries and values, of every attention.

    Raises:
        UserError: on a rank below 1, or a target that no layer is called.
    """

    module: Any
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ('*query', '*value')

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def setup(self):
        if self.rank < 1:
            raise UserError(f'lora.rank: {self.rank} is below 1')
        nn.share_scope(self, self.module)

    def adapted(self, *args: Any, **kwargs: Any) -> Any:
        """`module(*args, **kwargs)` with its adapters."""
        seen: set[str] = set()
        with nn.intercept_methods(_adapter(self.targets, self.rank, self.scale, seen)):
            result = self.module(*args, **kwargs)
        for target in self.targets:
            if not any(fnmatchcase(name, target) for name in seen):
                there = ', '.join(sorted(seen)) or 'none'
                what = type(self.module).__name__
                raise UserError(f"lora.targets: {what} has no layer '{target}'{nearest(target, seen)} (it has {there})")
        return result


def _adapter(targets: Sequence[str], rank: int, scale: float, seen: set[str]) -> Callable[..., Any]:
    """What Linen calls in place of each method below it. No method itself: that it would intercept too."""

    def intercept(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        y, dense = call(*args, **kwargs), context.module
        if not isinstance(dense, Dense) or context.method_name != '__call__':
            return y
        name = str(dense.name)
        seen.add(name)
        if not any(fnmatchcase(name, target) for target in targets):
            return y
        return y + scale * _LowRank(dense.shape, dense.axes, rank, name='lora')(*args)

    return intercept


class _LowRank(nn.Module):
    """(x A) B, A ~ N(0, 1 / fan_in), B = 0. A module of its own, so that the draws of W are those without it. shape,
    axes: see `Dense`.
    """

    shape: Sequence[int]
    axes: Sequence[str | None]
    rank: int

    @nn.compact
    def __call__(self, x: Float[Array, '...']) -> Float[Array, '...']:
        inputs = len(self.axes) - len(self.shape)
        normal = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal', in_axis=tuple(range(inputs)), out_axis=-1)
        sizes = (*x.shape[x.ndim - inputs :], self.rank)
        a = parameter(self, 'a', sizes, (*self.axes[:inputs], 'rank'), normal)
        b = parameter(self, 'b', (self.rank, *self.shape), ('rank', *self.axes[inputs:]), nn.initializers.zeros)
        return jnp.tensordot(jnp.tensordot(x.astype(a.dtype), a, axes=inputs), b, axes=1)


def merged(module: nn.Module, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a model without its wrappers that computes what `module` does with `params`: W + alpha / rank
    A B in place of W, A and B. In float32.

    module: a model, or any module whose wrappers stand in its fields, at any depth.

    Raises:
        UserError: on A and B whose wrapper is not found.
    """
    return _merged(params, (), dict(_scales(module, ())))


def _scales(module: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Where the wrappers in a tree of modules have their parameters, by Linen's names of submodules in fields."""
    if isinstance(module, Lora):
        yield path, module.scale
        yield from _scales(module.module, path)
    elif isinstance(module, nn.Module):
        for name, value in ((f, getattr(module, f)) for f in module.__dataclass_fields__ if f != 'parent'):
            if isinstance(value, nn.Module):
                yield from _scales(value, (*path, name))
            elif isinstance(value, dict):
                for key, part in value.items():
                    yield from _scales(part, (*path, f'{name}_{key}'))


def _merged(params: Any, path: tuple[str, ...], scales: dict[tuple[str, ...], float]) -> Any:
    if not isinstance(params, dict):
        return params
    rest = {name: _merged(x, (*path, name), scales) for name, x in params.items() if name != 'lora'}
    if 'lora' not in params:
        return rest
    inside = [scale for place, scale in scales.items() if path[: len(place)] == place]
    if not inside:
        raise UserError(f'lora: {"/".join(path)} has A and B, but no field of the model holds their wrapper')
    kernel, a, b = (jnp.asarray(x, jnp.float32) for x in (params['kernel'], params['lora']['a'], params['lora']['b']))
    layers = tuple(range(a.ndim + b.ndim - 2 - kernel.ndim))  # of a stack; the rank is a's last axis, b's first
    product = jax.lax.dot_general(a, b, (((a.ndim - 1,), (len(layers),)), (layers, layers)))
    return {**rest, 'kernel': kernel + inside[-1] * product}
