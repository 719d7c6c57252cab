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

from mmjax.config import override
from mmjax.config.swaps import walk
from mmjax.config.tree import to_tree
from mmjax.experiment import Experiment
from mmjax.nn.block import REMAT
from mmjax.nn.flops import count_flops
from mmjax.plan.links import Links
from mmjax.sharding import MESH_AXES, MeshShape, batch_parts
from mmjax.sharding.candidates import abstract, depth, held
from mmjax.train.passes import apply_model
from mmjax.train.run import shapes_of_batch
from mmjax.train.state import create_state, key_for, model_parameters
from mmjax.types import Shapes

PEAK_FRACTION = 0.6  # of a device's peak, assumed of all computation: only to weigh it against the links
ROWS = 4096  # that are traced, so many that what does not grow with them hardly counts
POLICIES = tuple(name for name in REMAT if name != 'offload')  # no figure of a host's memory bandwidth is known here


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of a model, by example. boxed: abstract parameters with their logical axes. state: bytes of the state for each
    parameter. kept: bytes for the backward pass, by remat policy. flops: with what is computed again, by policy.
    answers: bytes of the outputs. depth: layers of the deepest stack. tokens: of all modalities.
    """

    boxed: Any
    state: float
    kept: Mapping[str, float]
    flops: Mapping[str, float]
    answers: float
    depth: int
    tokens: float
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
    return Facts(
        boxed,
        state=_bytes(state) / sum(x.size for x in jax.tree.leaves(params)),
        kept=kept,
        flops=flops,
        answers=_bytes([x for x in outputs if x.shape[:1] == (ROWS,)]) / ROWS,
        depth=depth(boxed),
        tokens=sum(math.prod(x.mask.shape) for x in encoded.values()) / ROWS,
        width=jnp.dtype(experiment.precision).itemsize,
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
    links: Links | None,
) -> Estimate:
    """Of one step.

    Bytes: the state; gradients, twice where they are accumulated; what the backward pass keeps of the rows of a device,
    of which all but the input of each layer is cut over the neighbours that share a layer; one layer as it is computed;
    outputs twice; the largest array of parameters, gathered, twice. Seconds: FLOPs at an assumed fraction of the peak;
    on the links, for each accumulation step, parameters gathered twice and their gradients scattered, and six sums over
    the neighbours of each layer's tokens; then the sum over replicas. links: None: none are modelled.

    Raises:
        UserError: where a parameter does not divide.
    """
    mesh = abstract(shape, devices)
    parts = held(facts.boxed, mesh)
    sizes = dict(zip(MESH_AXES, shape.sizes(devices), strict=True))
    neighbours, lengths = sizes[MESH_AXES[-1]], sizes['sequence']
    rows = batch_size / (batch_parts(mesh) * accumulate)
    stream = facts.kept.get('full', min(facts.kept.values()))
    extra = max(facts.kept[remat] - stream, 0.0) / neighbours
    layer = max(facts.kept.get('none', stream) - stream, 0.0) / neighbours / facts.depth
    activations = rows / lengths * (stream + extra + layer + 2 * facts.answers)
    gradients = 4 * parts.shard * (1 if accumulate == 1 else 2)
    total = facts.state * parts.shard + gradients + activations + 2 * facts.width * parts.largest
    compute = facts.flops[remat] * batch_size / devices / (PEAK_FRACTION * peak_flops)
    if links is None:
        return Estimate(total, compute, 0.0)
    seconds = 0.0
    if parts.gathered:
        cut = links.bandwidth(links.groups(MESH_AXES[2:-1]))
        seconds += accumulate * 3 * facts.width * parts.gathered / cut
    if parts.reduced:
        copies = [axis for axis in MESH_AXES[:2] if sizes[axis] > 1] or MESH_AXES  # or what no axis cuts
        between = links.network if sizes[MESH_AXES[0]] > 1 else links.bandwidth(links.groups(copies))
        seconds += facts.width * parts.reduced / between
    if neighbours > 1:
        sums = 6 * 2 * (neighbours - 1) / neighbours * accumulate * rows / lengths * stream
        seconds += sums / links.bandwidth(links.groups(MESH_AXES[-1:]))
    return Estimate(total, compute, seconds)


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
