"""One call for every method of attribution, from an experiment and a batch to NumPy arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmjax.attribution.attention import capture
from mmjax.attribution.chefer import chefer
from mmjax.attribution.integrated import STEPS, integrated_gradients
from mmjax.attribution.joint import check_wiring, readout
from mmjax.attribution.rollout import rollout
from mmjax.attribution.scoring import encode, predicted, the_output
from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment
from mmjax.types import Batch

BY_ATTENTION = {'rollout': rollout, 'chefer': chefer}
METHODS = ('integrated_gradients', *BY_ATTENTION)


class Attribution(NamedTuple):
    """relevance: of each of the encoders' tokens, by modality; 0 for one that is masked. gap: of each example, what
    integrated gradients miss of completeness (see `mmjax.attribution.integrated.Integrated`); None of other methods.
    """

    relevance: dict[str, Float[np.ndarray, 'b _n']]
    gap: Float[np.ndarray, 'b'] | None


def attribute(
    method: str,
    experiment: Experiment,
    params: Any,
    batch: Batch,
    *,
    output: str | None = None,
    target: Int[Array, 'b'] | Int[np.ndarray, 'b'] | None = None,
    steps: int = STEPS,
) -> Attribution:
    """What each of the encoders' tokens contributes to the answer.

    method: 'integrated_gradients' (signed, of the logit), 'rollout' (not specific to a class) or 'chefer' (at least 0).
    params: without their logical axes, as a train state has them; computed in float32 whatever the run's precision.
    output: the decoder that is explained, by default the only one. target: the class, by default the predicted one.
    steps: of integrated gradients. What the tests of an attribution need besides, masks and predictions, `encode` and
    `predicted` give.

    Raises:
        UserError: on an unknown method or output, a design or decoder that the method does not know.
    """
    if method not in METHODS:
        raise UserError(f"method: unknown '{method}'{nearest(method, METHODS)} (there are {list(METHODS)})")
    model = experiment.model
    output = the_output(model, output)
    decoder = model.decoders[output]
    if method in BY_ATTENTION:
        check_wiring(model.fusion, method)
    encoded = encode(model, params, batch)
    target = predicted(model, params, encoded, output=output) if target is None else jnp.asarray(target)
    gap = None
    if method in BY_ATTENTION:
        readout(decoder, encoded, method=method)  # before what is costly
        _, maps = capture(model, params, encoded, output=output, target=target)
        found = jax.jit(lambda maps, encoded: BY_ATTENTION[method](model.fusion, decoder, maps, encoded))(maps, encoded)
    else:
        integrated = integrated_gradients(model, params, encoded, output=output, target=target, steps=steps)
        found, gap = integrated.attributions, np.asarray(integrated.gap, np.float64)
    relevance = {name: np.asarray(jnp.where(encoded[name].mask, x, 0), np.float64) for name, x in found.items()}
    return Attribution(relevance, gap)
