"""Equal size for unequal designs: the trunk is made deeper or shallower, then wider or narrower, until it matches."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from flax.core import meta

from mmjax.experiment import Experiment
from mmjax.fusion.base import Fusion
from mmjax.train.flops import train_flops
from mmjax.train.state import model_parameters
from mmjax.types import Shapes

RATIOS = (0.5, 8.0)  # hidden width of an MLP in widths of a token; a block outside is another kind of block
MOST_LAYERS = 24


@dataclass(frozen=True)
class Size:
    """parameters: learned numbers without the tables of embeddings. flops: of a training step on one example."""

    parameters: int
    flops: int


@dataclass(frozen=True)
class Fit:
    """How an arm is brought to the size of a regime, and the size that it then has.

    depth, ratio: of the fusion's layers and of their MLP; None where the design has no such thing. gap: how far the
    regime's quantity is from its target, as a share of it.
    """

    depth: int | None
    ratio: float | None
    parameters: int
    flops: int
    gap: float


def size_of(experiment: Experiment, batch: Shapes) -> Size:
    """The size of the whole model; computes nothing. batch: shapes of a batch of any number of examples."""
    params = meta.unbox(jax.eval_shape(lambda: model_parameters(experiment, batch)))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    examples = next(iter(batch.values())).shape[0]
    return Size(
        parameters=sum(math.prod(x.shape) for path, x in leaves if not _is_table(path)),
        flops=train_flops(experiment, params, batch) // examples,
    )


def match(experiment: Experiment, *, target: int, quantity: str, batch: Shapes) -> Fit:
    """The depth and MLP ratio of an experiment's fusion that bring a quantity of `Size` nearest to `target`.

    Encoders and decoders stay. For each depth the ratio is solved for, the quantity being linear in both (four sizes
    are measured); of the depths whose ratio is sensible the one that changes the block least is taken. A design without
    layers, or without an MLP in them, has fewer dials and may not match: the gap says so.
    """
    fusion = experiment.model.fusion
    found = size_of(experiment, batch)
    depth, ratio = getattr(fusion, 'depth', None), _ratio(fusion)
    if depth is None:
        return _at(experiment, None, None, target, quantity, batch)
    if math.isclose(getattr(found, quantity), target):
        return _at(experiment, depth, ratio, target, quantity, batch)

    low = smallest_depth(fusion, list(experiment.model.encoders))

    def value(depth: int, ratio: float | None) -> int:
        return getattr(size_of(resized(experiment, depth, ratio), batch), quantity)

    base, layer = value(low, ratio), value(low + 1, ratio) - value(low, ratio)
    if ratio is not None and value(low, 2 * ratio) == base:
        ratio = None  # of an MLP that the design does not use
    candidates: list[tuple[float, int, float | None]] = []
    if ratio is None:
        candidates = [(abs(base + (d - low) * layer - target), d, None) for d in range(low, MOST_LAYERS + 1)]
    else:
        wide, wide_layer = value(low, 2 * ratio), value(low + 1, 2 * ratio) - value(low, 2 * ratio)
        for d in range(low, MOST_LAYERS + 1):
            at_1, at_2 = base + (d - low) * layer, wide + (d - low) * wide_layer
            if at_2 != at_1:
                solved = ratio * (1 + (target - at_1) / (at_2 - at_1))
                if RATIOS[0] <= solved <= RATIOS[1]:
                    candidates.append((abs(math.log(solved / ratio)), d, round(solved, 4)))
        if not candidates:  # the nearest depth with the block as it is
            candidates = [(abs(base + (d - low) * layer - target), d, ratio) for d in range(low, MOST_LAYERS + 1)]
    _, depth, ratio = min(candidates, key=lambda candidate: candidate[:2])
    return _at(experiment, depth, ratio, target, quantity, batch)


def as_it_is(experiment: Experiment, *, target: int, quantity: str, batch: Shapes) -> Fit:
    """The size of an arm that is not to be matched, and its gap."""
    return _at(experiment, None, None, target, quantity, batch)


def smallest_depth(fusion: Fusion, modalities: Sequence[str]) -> int:
    """The fewest layers with which a design still lets the same streams read one another; fewer were another design.

    A bottleneck, say, carries nothing across in its first fused layer.
    """
    wanted = set(fusion.flow(modalities))
    depths = range(1, fusion.depth + 1)  # pyright: ignore
    return next((d for d in depths if _flows(fusion, d, modalities) == wanted), fusion.depth)  # pyright: ignore


def _flows(fusion: Fusion, depth: int, modalities: Sequence[str]) -> set[tuple[str, str]]:
    if depth < getattr(fusion, 'fusion_layer', 0):
        return set()
    return set(fusion.clone(depth=depth).flow(modalities))


def _at(
    experiment: Experiment, depth: int | None, ratio: float | None, target: int, quantity: str, batch: Shapes
) -> Fit:
    size = size_of(resized(experiment, depth, ratio), batch)
    return Fit(depth, ratio, size.parameters, size.flops, gap=getattr(size, quantity) / target - 1)


def resized(experiment: Experiment, depth: int | None, ratio: float | None) -> Experiment:
    """The experiment with another depth of its fusion and another MLP ratio of its blocks; None: as it is."""
    if depth is None:
        return experiment
    fusion = experiment.model.fusion
    changes: dict[str, Any] = {'depth': depth}
    if ratio is not None:
        block = fusion.block  # pyright: ignore
        changes['block'] = block.clone(mlp=block.mlp.clone(ratio=ratio))
    return dataclasses.replace(experiment, model=experiment.model.clone(fusion=fusion.clone(**changes)))


def _ratio(fusion: Fusion) -> float | None:
    return getattr(getattr(getattr(fusion, 'block', None), 'mlp', None), 'ratio', None)


def _is_table(path: tuple[object, ...]) -> bool:
    names = [str(getattr(part, 'key', part)) for part in path]
    return names[0].startswith('encoders_') and names[-2:] == ['embed', 'embedding']
