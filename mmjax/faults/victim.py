"""The run that is harmed, as a config file: `mmjax train mmjax/faults/victim.py`."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.data import Data, train_batches
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Checkpoint, Evaluation, Experiment
from mmjax.objectives.base import Objective
from mmjax.train.check_parts import SMALL, Drawn
from mmjax.train.check_parts import experiment as model_of
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Rows(Objective):
    """Sums squares of row numbers, exact in float32, so that `loss/rows` tells which examples a batch held. Has no
    gradient.
    """

    def __call__(self, outputs: Outputs, batch: Batch) -> Float[Array, ' b']:
        return jnp.square(batch['index']).astype(jnp.float32)


def experiment() -> Experiment:
    """A model of image and text with dropout and a moving average, that learns from drawn examples, several epochs."""
    made = model_of(SMALL)
    assert isinstance(made.data, Data)
    held_out = dataclasses.replace(made.data, source=Drawn(rows=80))
    return dataclasses.replace(
        made,
        name='victim',
        steps=60,
        objectives={**made.objectives, 'rows': Rows()},
        evals={'held_out': Evaluation(held_out, Accuracy(), every=4)},
        optim=dataclasses.replace(made.optim, ema=0.9),
        checkpoint=Checkpoint(every=5, keep=2),
        patience=120.0,
    )


def steady() -> Experiment:
    """A short one that has the same bits on any number of devices."""
    made = experiment()
    return dataclasses.replace(made, steps=8, evals={}, checkpoint=Checkpoint(every=2, keep=2), deterministic=True)


def seen(experiment: Experiment, step: int) -> float:
    """What `loss/rows` of a step has to be: of the batch of that step, drawn anew."""
    batches = train_batches(experiment.data, batch_size=experiment.batch_size, seed=experiment.seed, start=step - 1)
    squares = next(batches)['index'].astype('float64') ** 2
    batches.close()
    return float(squares.sum() / experiment.batch_size)
