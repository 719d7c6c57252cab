"""How long the collectives keep the links busy: a model, not a measurement, and no statement about overlap."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from einops import rearrange
from jaxtyping import Int

from mmjax.plan import torus
from mmjax.plan.collectives import Collective

MODEL = (
    'what a device sends by the formulas of a ring, over the links of the torus that its group can use where it lies, '
    'shared with the groups beside it (an all-to-all or a permute: what its busiest link carries); collectives one '
    'after another; no latency; what hides behind computation is not taken off'
)
EXCHANGES = ('all-to-all', 'ragged-all-to-all')


@dataclasses.dataclass(frozen=True, eq=False)
class Links:
    """The links of a slice, and where on them the devices of a mesh lie. How they are shared: see `torus`.

    link: bytes/s of one link between chips, one way. chip: bytes/s of a device to another of its chip. network: of a
    device over the data centre's network, between slices. sides, wrap: of the torus, and whether their ends are
    joined. mesh: sizes of the axes within a slice. places: coordinates of the devices, in the order of that mesh.
    """

    link: float
    chip: float
    network: float
    sides: Sequence[int]
    wrap: Sequence[bool]
    mesh: Mapping[str, int]
    places: Int[np.ndarray, 'devices dims']

    def groups(self, axes: Iterable[str]) -> Int[np.ndarray, 'groups devices']:
        """The groups of devices that differ in these axes of the mesh alone."""
        sizes = {f'of_{axis}': size for axis, size in self.mesh.items()}  # einops takes some names for itself
        among = [f'of_{axis}' for axis in self.mesh if axis in set(axes)]
        apart = [name for name in sizes if name not in among]
        order = f'({" ".join(sizes)}) -> ({" ".join(apart)}) ({" ".join(among)})'
        return rearrange(np.arange(len(self.places)), order, **sizes)

    def bandwidth(self, groups: Int[np.ndarray, 'groups devices']) -> float:
        """Bytes/s at which a device sends in a gather, a scatter or a sum of such groups; infinite where alone."""
        if groups.shape[1] == 1:
            return math.inf
        each = torus.along(self.places[groups], sides=self.sides, wrap=self.wrap).values()
        return self.link * sum(links for _, links in each) or self.chip

    def per_byte(self, kind: str, groups: Int[np.ndarray, 'groups devices']) -> float:
        """Seconds on the links for each byte that a device sends."""
        if kind in EXCHANGES:
            n = groups.shape[1]
            busiest = torus.exchange(self.places[groups], sides=self.sides, wrap=self.wrap) * n / (n - 1)
        elif kind == 'collective-permute':
            busiest = torus.shift(self.places[groups], sides=self.sides, wrap=self.wrap)
        else:
            return 1 / self.bandwidth(groups)
        return busiest / self.link or 1 / self.chip


@dataclasses.dataclass(frozen=True)
class LinkTime:
    """Seconds by kind and mesh axes (`network` behind those between slices)."""

    seconds: Mapping[tuple[str, tuple[str, ...]], float]

    @property
    def total(self) -> float:
        """As if no two collectives and no computation overlapped: an upper figure of this model."""
        return sum(self.seconds.values())


def seconds(found: Iterable[Collective], links: Links) -> LinkTime:
    """Time on the links of all collectives of a program."""
    totals: dict[tuple[str, tuple[str, ...]], float] = {}
    known: dict[tuple[str, tuple[int, ...], bytes], float] = {}  # the same groups come again and again
    for one in found:
        alike = one.kind, one.groups.shape, one.groups.tobytes()
        if not one.network and alike not in known:
            known[alike] = links.per_byte(one.kind, one.groups)
        each = 1 / links.network if one.network else known[alike]
        totals[one.key] = totals.get(one.key, 0.0) + one.wire_bytes * each
    return LinkTime(totals)
