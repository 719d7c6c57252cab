"""What a result is made of: the names that those who write, rank, calibrate and show it share."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

# A step's time, one after another: what the compiler or the roofline says, and two models.
SECONDS = {'compute': 'seconds/compute', 'attention': 'seconds/attention', 'links': 'seconds/links'}
MEMORY = {'arguments': 'argument_gib', 'temporaries': 'temp_gib', 'on the host': 'host_gib'}
COMPILERS = {'tpu': 'libtpu', 'gpu': 'jax-cuda13-plugin'}


def total(result: Mapping[str, Any]) -> float:
    """Of all SECONDS; 0 where there are none."""
    return sum(result.get(name, 0.0) for name in SECONDS.values())


def under(result: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What stands as WHAT/NAME in a flat result, by NAME."""
    return {name.removeprefix(f'{what}/'): x for name, x in result.items() if name.startswith(f'{what}/')}


def rows_of(result: Mapping[str, Any], what: str) -> Iterator[dict[str, Any]]:
    """The rows WHAT/1/…, WHAT/2/… of a flat result."""
    i = 1
    while row := under(result, f'{what}/{i}'):
        yield row
        i += 1


def say(what: str, line: str) -> None:
    """A line of progress of something long."""
    print(f'{what}: {line}', file=sys.stderr, flush=True)
