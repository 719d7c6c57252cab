"""Passes of the model on what objectives see of a batch: one for each distinct view."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmjax.experiment import Experiment
from mmjax.objectives.base import BESIDE, Objective
from mmjax.sharding import constrain
from mmjax.types import Batch, Outputs, Tokens
from mmjax.views.base import View
from mmjax.views.mined import Mined


class Views(NamedTuple):
    """The distinct views of an experiment's objectives: those of the batch, then those mined from them."""

    plain: list[View]
    mined: list[Mined]

    @classmethod
    def of(cls, experiment: Experiment) -> 'Views':
        asked = list(dict.fromkeys(view for objective in experiment.objectives.values() for view in objective.views))
        mined = [view for view in asked if isinstance(view, Mined)]
        plain = [view for view in asked if not isinstance(view, Mined)]
        return cls(list(dict.fromkeys([*plain, *(view.after for view in mined)])), mined)

    def place(self, view: View) -> int:
        """The place of a view in the lists that `run` gives."""
        return [*self.plain, *self.mined].index(view)

    def read_by(self, objective: Objective, outputs: list[Outputs]) -> Outputs:
        """What an objective is given of the outputs of every view: those of its own, and those beside them."""
        own, *beside = (outputs[self.place(view)] for view in objective.views)
        return {**own, **{f'{BESIDE}{name}': x for other in beside for name, x in other.items()}}


def run(
    experiment: Experiment, params: Any, views: Views, seen: list[Batch], *, dropout: jax.Array, mining: jax.Array
) -> tuple[list[Outputs], list[Batch]]:
    """Outputs and batch of every view. seen: the batches of the plain ones.

    What is mined takes encoded tokens from the pass of the view that it is mined after, and runs what follows them.
    """
    rngs, outputs, encoded = {'dropout': dropout}, [], {}
    for view, batch in zip(views.plain, seen, strict=True):
        if any(view == mined.after for mined in views.mined):
            encoded[view] = apply_model(experiment, params, batch, train=True, rngs=rngs, method='encode')
            outputs.append(apply_model(experiment, params, encoded[view], train=True, rngs=rngs, method='answer'))
        else:
            outputs.append(apply_model(experiment, params, batch, train=True, rngs=rngs))
    batches = list(seen)
    for view in views.mined:
        after = views.place(view.after)
        found = view.mine(outputs[after], seen[after], mining)
        tokens = {name: _taken(x, found.rows.get(name, found.rest)) for name, x in encoded[view.after].items()}
        outputs.append(apply_model(experiment, params, tokens, train=True, rngs=rngs, method='answer'))
        batches.append(found.batch)
    return outputs, batches


def _taken(tokens: Tokens, rows: Array) -> Tokens:
    tokens = jax.tree.map(lambda x: x[rows], tokens)
    return tokens.replace(values=constrain(tokens.values, 'batch', 'length', 'embed'))


def beside_modalities(experiment: Experiment, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What may be asked of a batch in an evaluation: everything but the modalities themselves."""
    return {name: x for name, x in batch.items() if name not in experiment.model.encoders}


def apply_model(experiment: Experiment, params: Any, x: Any, *, train: bool, **kwargs: Any) -> Any:
    """The model, or a `method` of it, in the experiment's compute dtype: parameters are cast, and layers compute in the
    dtype of theirs.
    """
    return experiment.model.apply({'params': cast(params, experiment.precision)}, x, train=train, **kwargs)


def cast(tree: Any, precision: str) -> Any:
    """Floating leaves in the compute dtype."""
    dtype = jnp.dtype(precision)
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
