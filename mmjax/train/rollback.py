"""Going back to the last good checkpoint, and on with the batches behind those that led astray."""

from collections.abc import Callable

import jax
import numpy as np

from mmjax.distributed.group import shared
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.resume import resumed
from mmjax.train.state import TrainState
from mmjax.train.watch import Watch


def rolled_back(
    state: TrainState,
    *,
    watch: Watch,
    checkpoints: Checkpoints,
    shapes: TrainState,
    fresh: Callable[[], TrainState],
    say: Callable[[str], None],
) -> TrainState:
    """The newest state that was saved before the steps that were skipped in a row, as if it were that after the last of
    them: the data position is the step. Where none was saved before them it is the newest, where none was saved at all
    a fresh one. `state` is given up first, so that there is room for two of them nowhere.

    Raises:
        UserError: where the run has gone back often enough.
    """
    watch.give_up()
    first, last = watch.first, watch.last
    checkpoints.wait()
    for x in jax.tree.leaves(state):
        x.delete()
    earlier = shared(lambda: [step for step in checkpoints.steps if step < first])
    found = (resumed(checkpoints, shapes, say=say, before=first) if earlier else None) or resumed(
        checkpoints, shapes, say=say
    )
    to = int(found.step) if found else 0
    watch.went_back(to, checkpoints.about(to).get('guard') if found else None)
    say(f'steps {first} to {last} were skipped: going back to step {to}, and on with the batches behind step {last}')
    step = jax.device_put(np.asarray(last, shapes.step.dtype), shapes.step.sharding)
    return (found or fresh()).replace(step=step)
