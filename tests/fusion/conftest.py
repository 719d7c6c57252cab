"""A small case of a design: its module, parameters and tokens."""

import functools

import pytest

from tests.fusion.designs import build, make_tokens


@pytest.fixture(scope='session')
def case(random_parameters):
    """case(design, names, **changes): a module, random parameters for it, and tokens; the same ones each time."""

    @functools.cache
    def make(design, names, **changes):
        module, mods = build(design, **changes), make_tokens(names)
        return module, random_parameters(module, mods, train=False), mods

    return make
