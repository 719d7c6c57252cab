"""What a step roughly needs on a mesh, without a compiler: to choose what is worth compiling, never to be reported as
a result.

Everything is traced on one device, for each remat policy; a mesh only divides it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import meta

from mmjax.config import override
from mmjax.config.swaps import walk
from mmjax.config.tree import to_tree
from mmjax.experiment import Experiment
from mmjax.nn.block import REMAT
from mmjax.nn.flops import count_flops
from mmjax.plan.links import Links
from mmjax.sharding import BETWEEN_SLICES, MESH_AXES, TABLE, MeshShape, batch_parts
from mmjax.sharding.candidates import abstract, depth, held, sizes_of
from mmjax.train.passes import apply_model
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.state import create_state, key_for, model_parameters
from mmjax.types import Shapes

PEAK_FRACTION = 0.6  # of a device's peak, assumed of all computation: only to weigh it against the links
ROWS = 4096  # that are traced, so many that what does not grow with them hardly counts
# Mesh axes: along which parameters are gathered; which share a layer; which have a length; which have experts; which
# have the same parameters.
GATHERED, SHARED, LENGTHS, EXPERTS = TABLE['embed'][0], TABLE['heads'][0], TABLE['length'][1], TABLE['expert'][0]
REPLICAS = tuple(axis for axis in TABLE['batch'][1] if axis not in GATHERED)
POLICIES = tuple(name for name in REMAT if name != 'offload')  # no figure of a host's memory bandwidth is known here


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of a model, by example. boxed: abstract parameters with their logical axes. state: bytes of the state for each
    parameter. kept: bytes for the backward pass, by remat policy. flops: with what is computed again, by policy.
    answers: bytes of the outputs. depth: layers of the deepest stack. tokens: of all modalities. keys: bytes of the
    keys and values of all layers. routed: bytes of the tokens that all layers with a mixture of experts are given.
    """

    boxed: Any
    state: float
    kept: Mapping[str, float]
    flops: Mapping[str, float]
    answers: float
    depth: int
    tokens: float
    keys: float
    routed: float
    width: int  # bytes of a number that is computed with


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes and seconds on one device."""

    bytes: float
    compute: float
    links: float

    @property
    def seconds(self) -> float:
        return self.compute + self.links


def remat_fields(experiment: Experiment) -> dict[str, str]:
    """All fields of the model called `remat`, by their paths as a command line names them."""
    tree = to_tree(experiment, annotation=type(experiment))
    return {spot.name: spot.value for spot in walk(tree) if spot.path[-1] == 'remat' and spot.path[0] == 'model'}


def with_remat(experiment: Experiment, policy: str) -> Experiment:
    """With a policy in all of them."""
    return override(experiment, [f'{path}={policy}' for path in remat_fields(experiment)])


def measure(experiment: Experiment, policies: tuple[str, ...]) -> Facts:
    """Traces a model under each of the policies."""
    shapes = shapes_of_batch(experiment)
    batch = {name: jax.ShapeDtypeStruct((ROWS, *x.shape[1:]), x.dtype) for name, x in shapes.items()}
    boxed = jax.eval_shape(lambda: model_parameters(experiment, batch))
    state = jax.eval_shape(lambda: create_state(experiment, batch))
    params, kept, flops = state.params, {}, {}
    for policy in policies:
        forward = _forward(with_remat(experiment, policy))
        kept[policy] = _residual_bytes(forward, params, batch) / ROWS
        flops[policy] = count_flops(_backward(forward), params, batch) / ROWS
    encoded = jax.eval_shape(lambda p, b: experiment.model.apply({'params': p}, b, method='encode'), params, batch)
    outputs = jax.eval_shape(_forward(experiment), params, batch)
    lengths = {name: math.prod(x.mask.shape) / ROWS for name, x in encoded.items()}
    width = jnp.dtype(experiment.precision).itemsize
    return Facts(
        boxed,
        state=_bytes(state) / sum(x.size for x in jax.tree.leaves(params)),
        kept=kept,
        flops=flops,
        answers=_bytes([x for x in outputs if x.shape[:1] == (ROWS,)]) / ROWS,
        depth=depth(boxed),
        tokens=sum(lengths.values()),
        keys=width * _numbers(boxed, lengths, _of_keys),
        routed=width * _numbers(boxed, lengths, _of_routed),
        width=width,
    )


def estimate(
    facts: Facts,
    shape: MeshShape,
    *,
    remat: str,
    accumulate: int,
    batch_size: int,
    devices: int,
    peak_flops: float,
    links: Links,
) -> Estimate:
    """Of one step.

    Bytes: the state; gradients, twice where they are accumulated; what the backward pass keeps of the rows of a device,
    of which all but the input of each layer is cut over the neighbours that share a layer; one layer as it is computed;
    outputs twice; the largest array of parameters, gathered, twice. Seconds: FLOPs at an assumed fraction of the peak;
    on the links, for each accumulation step, parameters gathered twice and their gradients scattered; six sums over
    the neighbours of each layer's tokens; where lengths are cut, keys and values gathered twice and their gradients
    scattered; where experts are, the tokens of all devices along that axis gathered and what is made of them scattered,
    three times (forward, again, backward); then the sum over replicas.

    Raises:
        UserError: where a parameter does not divide.
    """
    mesh = abstract(shape, devices)
    parts = held(facts.boxed, mesh)
    sizes = sizes_of(shape, devices)
    neighbours, lengths, experts = (math.prod(sizes[axis] for axis in axes) for axes in (SHARED, LENGTHS, EXPERTS))
    rows = batch_size / (batch_parts(mesh) * accumulate)
    stream = facts.kept.get('full', min(facts.kept.values()))
    extra = max(facts.kept[remat] - stream, 0.0) / neighbours
    layer = max(facts.kept.get('none', stream) - stream, 0.0) / neighbours / facts.depth
    activations = rows / lengths * (stream + extra + layer + 2 * facts.answers)
    gradients = 4 * parts.shard * (1 if accumulate == 1 else 2)
    total = facts.state * parts.shard + gradients + activations + 2 * facts.width * parts.largest
    compute = facts.flops[remat] * batch_size / devices / (PEAK_FRACTION * peak_flops)
    own = accumulate * rows / lengths  # examples, or parts of them, whose tokens lie on a device
    each = {  # bytes that it sends, by the axes along which
        GATHERED: accumulate * 3 * facts.width * parts.gathered,
        SHARED: own * 6 * 2 * (neighbours - 1) / neighbours * stream,
        LENGTHS: own * 3 * (lengths - 1) * facts.keys,
        EXPERTS: own * 6 * (experts - 1) * facts.routed,
    }
    seconds = sum(size / links.bandwidth(links.groups(axes)) for axes, size in each.items() if size)
    if parts.reduced:
        copies = [axis for axis in REPLICAS if sizes[axis] > 1] or MESH_AXES  # or what no axis cuts
        between = links.network if sizes[BETWEEN_SLICES] > 1 else links.bandwidth(links.groups(copies))
        seconds += facts.width * parts.reduced / between
    return Estimate(total, compute, seconds)


def _numbers(boxed: Any, lengths: Mapping[str, float], of: Callable[[tuple[str, ...], Any], int]) -> float:
    """Of one example: what `of` says of each parameter, for a token, times the tokens that it is applied to: those of
    its encoder, behind the encoders all.

    lengths: tokens by modality.
    """
    found = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=lambda x: isinstance(x, meta.AxisMetadata)):
        if isinstance(leaf, meta.AxisMetadata):
            names = tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
            tokens = next((n for name, n in lengths.items() if f'encoders_{name}' in names), sum(lengths.values()))
            found += tokens * of(names, leaf)
    return found


def _of_keys(path: tuple[str, ...], leaf: Any) -> int:
    """Numbers of keys or values of a token that a matrix makes, in all layers."""
    if path[-1] != 'kernel' or not path[-2].endswith(('key', 'value')):
        return 0
    sizes = zip(leaf.unbox().shape, leaf.names, strict=True)
    return math.prod(size for size, name in sizes if name != 'embed')


def _of_routed(path: tuple[str, ...], leaf: Any) -> int:
    """Numbers of a token that a mixture of experts is given, in all layers, by the matrix that leads out of it."""
    if leaf.names[-3:] != ('expert', 'mlp', 'expert_embed'):
        return 0
    sizes = zip(leaf.unbox().shape, leaf.names, strict=True)
    return math.prod(size for size, name in sizes if name in ('layers', 'expert_embed'))


def _forward(experiment: Experiment) -> Callable[..., Any]:
    def forward(params: Any, batch: Shapes) -> Any:
        rngs = {'dropout': key_for('dropout', seed=0)}
        outputs = apply_model(experiment, params, batch, train=True, rngs=rngs)
        return [x for x in jax.tree.leaves(outputs) if jnp.issubdtype(x.dtype, jnp.inexact)]

    return forward


def _backward(forward: Callable[..., Any]) -> Callable[..., Any]:
    def backward(params: Any, batch: Shapes) -> Any:
        outputs, pull = jax.vjp(lambda p: forward(p, batch), params)
        return pull(optax.tree.ones_like(outputs))

    return backward


def _residual_bytes(forward: Callable[..., Any], params: Any, batch: Shapes) -> float:
    """What the pull-back holds: its leaves are the arrays that the forward pass keeps."""
    return _bytes(jax.eval_shape(lambda p, b: jax.vjp(lambda q: forward(q, b), p)[1], params, batch))


def _bytes(tree: Any) -> float:
    return float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)))
