"""Types of loaded values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from mmjax.config.fitting import check_types, fits
from mmjax.errors import UserError


@pytest.mark.parametrize(
    'value, annotation, right',
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ('1', float, False),
        (None, int | None, True),
        ('x', int | None, False),
        ((1, 2), tuple[int, ...], True),
        ((1, 'x'), tuple[int, ...], False),
        ((1, 'x'), tuple[int, str], True),
        ((1,), tuple[int, str], False),
        ({'a': 1.5}, dict[str, float], True),
        ({'a': 'b'}, dict[str, float], False),
        ('a', Literal['a', 'b'], True),
        ('c', Literal['a', 'b'], False),
        (object(), Any, True),
        (len, Callable[[Any], int], True),
        ('written', 'NotThere', True),
    ],
)
def test_a_value_fits_what_is_declared(value, annotation, right):
    assert fits(value, annotation) is right


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    parts: dict[str, Inner] = field(default_factory=lambda: {'a': Inner()})
    several: tuple[Inner, ...] = (Inner(),)


def test_the_place_of_what_does_not_fit_is_told():
    check_types(Outer())
    with pytest.raises(UserError, match=r"^parts\.b\.rate: 'high' is str; it takes float"):
        check_types(Outer(parts={'b': Inner('high')}))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r'^several\.1\.rate'):
        check_types(Outer(several=(Inner(), Inner(None))))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r'^several: .* takes'):
        check_types(Outer(several=(3,)))  # pyright: ignore[reportArgumentType]
