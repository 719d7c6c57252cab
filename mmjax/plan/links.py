"""How long the collectives keep the links busy: a model, not a measurement, and no statement about overlap."""

import dataclasses
from collections.abc import Iterable, Mapping

from mmjax.plan.collectives import Collective
from mmjax.plan.groups import MIXED

ASSUMPTION = (
    'model of the links: bytes that a device sends, by the formulas of a ring, over the bandwidth of the links along '
    'its mesh axes, all of them busy and free of others; collectives one after another; no latency; what hides behind '
    'computation is not taken off'
)


@dataclasses.dataclass(frozen=True)
class Links:
    """What a device can send.

    link: bytes/s of one link between chips, one way. per_axis: of each mesh axis, how many links leave a device along
    it if it were a line: one for each dimension of the torus that the axis lies on. wraps: of each mesh axis, whether
    its ends are joined, so that it sends both ways round: twice the bandwidth. network: bytes/s of a device over the
    data centre's network, between slices.
    """

    link: float
    per_axis: Mapping[str, int]
    wraps: Mapping[str, bool]
    network: float

    def bandwidth(self, one: Collective) -> float:
        """Bytes/s at which a device sends in a collective: along all its mesh axes at once, or over the network.

        `mixed` groups are on no axis: they are given the slowest one.

        Raises:
            KeyError: on a mesh axis that has no links here.
        """
        if one.network:
            return self.network
        each = {axis: self.link * links * (1 + self.wraps[axis]) for axis, links in self.per_axis.items()}
        return min(each.values()) if one.axes == MIXED else sum(each[axis] for axis in one.axes)


@dataclasses.dataclass(frozen=True)
class LinkTime:
    """Seconds by kind and mesh axes (`network` behind those between slices), and what the figures assume, in words."""

    seconds: Mapping[tuple[str, tuple[str, ...]], float]
    assumption: str = ASSUMPTION

    @property
    def total(self) -> float:
        """As if no two collectives and no computation overlapped: an upper figure of this model."""
        return sum(self.seconds.values())


def seconds(found: Iterable[Collective], links: Links) -> LinkTime:
    """Time on the links of all collectives of a program."""
    totals: dict[tuple[str, tuple[str, ...]], float] = {}
    for one in found:
        key = (one.kind, (*one.axes, *['network'] * one.network))
        totals[key] = totals.get(key, 0.0) + one.wire_bytes / links.bandwidth(one)
    return LinkTime(totals)
