"""All fusion designs of the package, small, and tokens for them."""

import dataclasses
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmjax.fusion
from mmjax.fusion.base import Fusion
from mmjax.fusion.concat import Concat
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.lora import Lora
from mmjax.types import Tokens

WIDTH, BATCH = 16, 3
LENGTHS = {'image': 4, 'text': 3, 'audio': 5}
PAIR, TRIPLE = ('image', 'text'), ('image', 'text', 'audio')


def designs() -> list[type[Fusion]]:
    modules = [
        importlib.import_module(f'mmjax.fusion.{info.name}') for info in pkgutil.iter_modules(mmjax.fusion.__path__)
    ]
    return [
        cls
        for module in modules
        for cls in vars(module).values()
        if isinstance(cls, type)
        and issubclass(cls, Fusion)
        and not issubclass(cls, Lora)  # a wrapper: tests/nn/test_lora.py
        and not vars(cls).get('abstract', False)
        and cls.__module__ == module.__name__
    ]


each_design = pytest.mark.parametrize('design', designs(), ids=lambda cls: cls.__name__)
each_case = pytest.mark.parametrize(
    ('design', 'names'),
    [
        pytest.param(cls, names, id=f'{cls.__name__}-{len(names)}_modalities')
        for cls in designs()
        for names in (PAIR, TRIPLE)
        if cls.modalities in (None, len(names))
    ],
)


def most(design):
    """As many modalities as the tests have and the design admits."""
    return TRIPLE[: design.modalities]


def build(design, **changes):
    """A small one. Where a design can choose the layer from which it fuses, it is not the first.

    The towers that a design need not have are one code, which compiles long: of those designs only `Concat` has them.
    """
    fields = {field.name for field in dataclasses.fields(design)}
    small = {'depth': 2, 'block': Block(attention=Attention(heads=2)), 'hidden': (WIDTH,), 'rows': 2, 'columns': 2}
    small |= {'g': (12, 10), 'f': (WIDTH,)}
    if 'fusion_layer' in fields:
        small |= {'fusion_layer': 1, 'depth': 3}
    if getattr(design, 'depth', None) == 0 and design is not Concat:
        small |= {'depth': 0}
    return design(**{name: value for name, value in (small | changes).items() if name in fields})


def make_tokens(names, *, batch=BATCH, seed=0):
    """Row 0: everything is real. Row 1: the first modality is padded. Row 2: the second is absent."""
    rng = np.random.default_rng(seed)
    tokens = {}
    for i, name in enumerate(names):
        mask = np.ones((batch, LENGTHS[name]), bool)
        if i == 0:
            mask[1, -2:] = False
        if i == 1:
            mask[2] = False
        values = rng.standard_normal((batch, LENGTHS[name], WIDTH))
        tokens[name] = Tokens.of(jnp.asarray(values, jnp.float32), jnp.asarray(mask))
    return tokens


def outputs(fused):
    return fused.streams if fused.shared is None else fused.streams | {'shared': fused.shared}


@functools.cache
def compiled_forward(module):
    """(params, mods) -> Fused; compiled once for all tests of a worker."""
    return jax.jit(lambda params, mods: module.apply(params, mods, train=False))
