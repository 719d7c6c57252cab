"""What the groups of a collective can use of a torus of chips: the geometry of the model of the links.

All groups of a collective run at once, and a group is known by the places of its devices alone:

- Along each dimension that they are spread over, the devices of a group lie on lines, one for each of their places in
  the other dimensions.
- A line goes forth and back over the hops from its first device to its last: one link each way. In a dimension whose
  ends are joined it may go all round instead, both ways: two links.
- Lines that want the same hop share it. Parts of a side that lie one after another want none in common; those that lie
  within one another (every second device, every fourth) want all. What a line has is divided by the most that meet.
- Gathers, scatters and sums cut their bytes over the dimensions so that all are done at once: their links add up.
- In an all-to-all each byte goes along every dimension to its receiver: the slowest decides (`exchange`).
- What is sent to one receiver goes the shortest way, one dimension after another: the busiest link decides (`shift`).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int


def along(
    places: Int[np.ndarray, 'groups devices dims'], *, sides: Sequence[int], wrap: Sequence[bool]
) -> dict[int, tuple[int, float]]:
    """Of each dimension that a group is spread over: places of a line, and the links that a device has there.

    places: coordinates of each device. sides: of the torus. wrap: which of them are closed.
    """
    at = [_places(places[..., d], side) for d, side in enumerate(sides)]
    found = {}
    for d in range(len(sides)):
        spread = at[d].sum(1) > 1
        if not spread.any():
            continue
        lines = [held[spread] for held in at]
        first_to_last = np.logical_or.accumulate(lines[d], 1) & np.logical_or.accumulate(lines[d][:, ::-1], 1)[:, ::-1]
        hops = first_to_last[:, :-1] & first_to_last[:, 1:]  # hop i is from i to i + 1
        links = 1 / _most([*lines[:d], hops, *lines[d + 1 :]])
        if wrap[d]:
            links = max(links, 2 / _most([*lines[:d], np.ones_like(hops[:, :1]), *lines[d + 1 :]]))
        found[d] = int(lines[d].sum(1).max()), links
    return found


def _places(where: Int[np.ndarray, 'groups devices'], side: int) -> Bool[np.ndarray, 'groups side']:
    held = np.zeros((len(where), side), bool)
    held[np.arange(len(where))[:, None], where] = True
    return held


def _most(wanted: list[Bool[np.ndarray, 'groups _']]) -> float:
    """Of all hops the most groups that want the same. wanted: of each dimension, the places where a group does."""
    letters = 'xyz'[: len(wanted)]
    counts = ','.join(f'g{letter}' for letter in letters)
    return float(np.einsum(f'{counts}->{letters}', *(x.astype(np.float32) for x in wanted), optimize=True).max())


def exchange(places: Int[np.ndarray, 'groups devices dims'], *, sides: Sequence[int], wrap: Sequence[bool]) -> float:
    """Of an all-to-all: bytes on the busiest link, over the bytes that a device has afterwards.

    Of n places in a row, n // 2 send to the others over the hop in the middle, each 1 / n of what it has to every
    place: (n * n // 4) / n each way, and half of it both ways round. As many times as devices share a place. 0 within a
    chip.
    """
    each = along(places, sides=sides, wrap=wrap).values()
    alike = places.shape[1] / math.prod(n for n, _ in each)
    return alike * max(((n * n // 4) / n / links for n, links in each), default=0.0)


def shift(places: Int[np.ndarray, 'pairs two dims'], *, sides: Sequence[int], wrap: Sequence[bool]) -> float:
    """Of a permute: messages on the busiest link, where each goes from one place to another. 0 within a chip.

    Where both ways round are as long, half of a message goes each way.
    """
    here, there = places[:, 0].copy(), places[:, 1]
    most = 0.0
    for d, side in enumerate(sides):
        onward = (there[:, d] - here[:, d]) % side if wrap[d] else there[:, d] - here[:, d]
        back = side - onward if wrap[d] else -onward
        for sign, way, other in ((1, onward, back), (-1, back, onward)):
            shortest = (way > 0) & ((way <= other) if wrap[d] else True)
            weight = np.where(shortest, np.where(way == other, 0.5, 1.0), 0.0)
            load, at = np.zeros(math.prod(sides)), here.copy()
            for step in range(int(way[shortest].max(initial=0))):
                going = shortest & (way > step)
                np.add.at(load, np.ravel_multi_index(at[going].T, tuple(sides)), weight[going])
                at[:, d] = (at[:, d] + sign) % side
            most = max(most, float(load.max()))
        here[:, d] = there[:, d]
    return most
