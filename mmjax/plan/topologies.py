"""The hardware that a plan can be made for: one table of generations, and the slices of them that can be had.

Everything here is known without a compiler. Sources, by field of `Generation`:

hbm_gib: what the compiler allows a device, as its own out-of-memory message states it (libtpu 0.0.52); of a GPU,
three quarters of the 79.11 that CUDA reports, as JAX takes unless it is told otherwise. flops, hbm_gbps, dcn_gbps: the
vendors' data sheets (cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, tpu7x: peak bf16, HBM and data-centre bandwidth of a
chip), divided by the devices of a chip. link_gbps, links: the bidirectional inter-chip bandwidth of a chip there,
divided by two directions and by its ports (v4: six links
of 50 GB/s, Jouppi et al. 2023, arXiv:2304.01433). clock_ghz: v4 from that paper; v5e and v5p nominal, and in keeping
with the peak: the `estimated_cycles` of a large matrix product over the clock come within 20 % of its FLOPs over the
peak. Those of v6e and tpu7x are not published, so no seconds are derived from cycles. dcn_gbps of v4, v6e and tpu7x is
from memory, not looked up again: plans of several slices of these rest on it.

Slices: the tables of the same pages; of the 3-D generations those show the slices below a cube of 4x4x4 and the
commonest above, which are whole cubes, A <= B <= C, up to the pod. Links that close a ring exist in every whole cube
along all three axes, and in 2-D along an axis of 16 alone (MaxText's accelerator_to_spec_map.py and the TPU device
plugin of GKE, which state it slice by slice, agree).
"""

import math
import re
from dataclasses import dataclass

from mmjax.errors import UserError, nearest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Generation:
    """A generation of accelerators. What is said of a device holds for what JAX calls one; a tpu7x chip has two.

    platform: 'tpu' or 'gpu'. hbm_gib: GiB a device may use. flops: bfloat16 FLOP/s of a device. hbm_gbps: GB/s of its
    memory. link_gbps, links: GB/s of one link in one direction, and links of a chip. dcn_gbps: GB/s of a chip in one
    direction to other slices. clock_ghz: None where it is not known. below_cube: slices that are no whole cubes, nor
    nodes. pod: the most chips that are linked. largest_job: chips of the largest slice that can be rented, where that
    is less. chip_config: what libtpu must be told so that a chip is one device.
    """

    name: str
    platform: str
    hbm_gib: float
    flops: float
    hbm_gbps: float
    link_gbps: float
    links: int
    dcn_gbps: float
    clock_ghz: float | None
    below_cube: tuple[Shape, ...]
    pod: int
    largest_job: int | None = None
    devices_per_chip: int = 1
    chip_config: str | None = None

    @property
    def dimensions(self) -> int:
        return len(self.below_cube[-1])

    def shapes(self) -> list[Shape]:
        """The slices that exist, the smallest first."""
        if self.platform == 'gpu':
            return [*self.below_cube, *((nodes, 8) for nodes in range(2, self.pod // 8 + 1))]
        cubes: list[Shape] = []
        if self.dimensions == 3:
            sides = range(4, self.pod // 16 + 1, 4)
            cubes = [
                (a, b, c) for a in sides for b in sides if a <= b for c in sides if b <= c and a * b * c <= self.pod
            ]
        return sorted([*self.below_cube, *cubes], key=lambda shape: (math.prod(shape), max(shape)))


_PLANE: tuple[Shape, ...] = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_SPACE: tuple[Shape, ...] = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))

GENERATIONS = {
    'v4': Generation(
        'v4', platform='tpu', hbm_gib=30.75, flops=275e12, hbm_gbps=1200.0, link_gbps=50.0, links=6, dcn_gbps=6.25,
        clock_ghz=1.05, below_cube=_SPACE, pod=4096, chip_config='megacore',
    ),
    'v5e': Generation(
        'v5e', platform='tpu', hbm_gib=15.75, flops=197e12, hbm_gbps=819.0, link_gbps=50.0, links=4, dcn_gbps=3.125,
        clock_ghz=1.5, below_cube=_PLANE, pod=256,
    ),
    'v5p': Generation(
        'v5p', platform='tpu', hbm_gib=95.73, flops=459e12, hbm_gbps=2765.0, link_gbps=100.0, links=6, dcn_gbps=6.25,
        clock_ghz=1.75, below_cube=_SPACE, pod=8960, largest_job=6144,
    ),
    'v6e': Generation(
        'v6e', platform='tpu', hbm_gib=31.24, flops=918e12, hbm_gbps=1638.0, link_gbps=100.0, links=4, dcn_gbps=12.5,
        clock_ghz=None, below_cube=_PLANE, pod=256,
    ),
    'tpu7x': Generation(
        'tpu7x', platform='tpu', hbm_gib=94.74, flops=2307e12 / 2, hbm_gbps=7380.0 / 2, link_gbps=100.0, links=6,
        dcn_gbps=12.5, clock_ghz=None, below_cube=((1, 1, 1), *_SPACE), pod=9216, devices_per_chip=2,
    ),
    # Nodes x GPUs of a node: within one NVLink, 18 links of 25 GB/s; between them 400 Gb/s for each GPU.
    'h100': Generation(
        'h100', platform='gpu', hbm_gib=59.33, flops=989e12, hbm_gbps=3350.0, link_gbps=25.0, links=18, dcn_gbps=50.0,
        clock_ghz=None, below_cube=((1, 1), (1, 2), (1, 4), (1, 8)), pod=16384,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Topology:
    """So many equal slices of a generation; `shape` in chips along each axis of one."""

    generation: Generation
    shape: Shape
    slices: int = 1

    @property
    def name(self) -> str:
        return f'{self.generation.name}:{_written(self.shape)}'

    @property
    def chips(self) -> int:
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        return self.chips * self.generation.devices_per_chip

    @property
    def wrap(self) -> tuple[bool, bool, bool]:
        """Along which axes links close a ring; told nothing, the compiler takes none for closed and sends more."""
        if self.generation.platform == 'gpu':
            return False, False, False
        if self.generation.dimensions == 2:
            x, y = (side == 16 for side in self.shape)
            return x, y, False
        whole = all(side % 4 == 0 for side in self.shape)
        return whole, whole, whole

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it before renting it."""
        largest, chips = self.generation.largest_job, math.prod(self.shape)
        if self.generation.platform == 'gpu':
            return ["attention is planned as XLA computes it; cuDNN's kernel is chosen where a GPU is"]
        if largest is None or chips <= largest:
            return []
        return [f'{self.name}: {chips:,} chips a slice; the largest that Google Cloud schedules has {largest:,}']


def parse_topology(text: str, *, slices: int = 1) -> Topology:
    """'v5p:8x8x8' -> the topology of so many such slices; 'h100:8x8' is 8 nodes of 8 GPUs.

    Raises:
        UserError: on what is no such name, an unknown generation, a slice that does not exist, or slices below 1.
    """
    if not text:
        raise UserError(f'--topology: name the hardware, such as v5p:4x4x4 (there are {", ".join(GENERATIONS)})')
    if slices < 1:
        raise UserError(f'--slices: {slices} is below 1')
    found = re.fullmatch(r'([A-Za-z0-9_]+):(\d+(?:x\d+)*)', text)
    if not found:
        raise UserError(
            f'--topology: {text!r} is no NAME:AxB[xC]{_meant(text)} (such as v5p:4x4x4, v5e:16x16, h100:8x8)'
        )
    generation = generation_named(found[1])
    shape = tuple(int(side) for side in found[2].split('x'))
    if shape not in generation.shapes():
        near = ' or '.join(f'{generation.name}:{_written(x)}' for x in _near(generation, shape))
        raise UserError(f'--topology: no slice {text} exists; the nearest that do are {near}')
    if slices > 1 and generation.platform == 'gpu':
        raise UserError(
            f'--slices: {slices} slices of {text}; nodes of GPUs are its first number, so leave --slices out'
        )
    return Topology(generation, shape, slices)


def generation_named(name: str) -> Generation:
    """Raises UserError where there is none, with the nearest."""
    if name not in GENERATIONS:
        hint = nearest(name.lower(), GENERATIONS)
        raise UserError(f'--topology: unknown hardware {name!r}{hint} (there are {", ".join(GENERATIONS)})')
    return GENERATIONS[name]


def _meant(text: str) -> str:
    """Of a name that counts cores, such as v5p-128: the slice that it is."""
    found = re.fullmatch(r'([A-Za-z0-9]+?)(?:litepod)?[-:](\d+)', text)
    name = {'v5': 'v5e', 'v5p': 'v5p'}.get(found[1], found[1]) if found else ''
    if not found or name not in GENERATIONS:
        return ''
    # Google counts TensorCores where a chip has two, and chips where it has one.
    chips = int(found[2]) // (2 if GENERATIONS[name].dimensions == 3 else 1)
    same = [shape for shape in GENERATIONS[name].shapes() if math.prod(shape) == chips]
    return f'; did you mean {name}:{_written(same[0])}, which has {chips} chips?' if same else ''


def _near(generation: Generation, shape: Shape) -> list[Shape]:
    """Up to three slices that are most like one that does not exist: in chips, then in their sides."""
    chips, sides = max(math.prod(shape), 1), sorted((*shape, 1, 1, 1)[:3])

    def distance(other: Shape) -> tuple[float, int]:
        alike = sum(abs(a - b) for a, b in zip(sides, sorted((*other, 1)[:3]), strict=True))
        return abs(math.log(math.prod(other) / chips)), alike

    return sorted(generation.shapes(), key=distance)[:3]


def _written(shape: Shape) -> str:
    return 'x'.join(map(str, shape))
