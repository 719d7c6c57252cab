"""The state that a run goes on with: of its newest checkpoint that can be trusted."""

from collections.abc import Callable

import jax

from mmjax.distributed.group import is_first, shared
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.storage import path_of
from mmjax.train.checkpoint import Checkpoints, Damaged, reading, steps_in
from mmjax.train.state import TrainState, abstract_state
from mmjax.types import Shapes


def resumed(
    checkpoints: Checkpoints, shapes: TrainState, *, say: Callable[[str], None], before: int | None = None
) -> TrainState | None:
    """The newest state that is whole; None: none was saved yet. What is damaged is put aside, and said. All processes
    of a group take the same. before: only those of earlier steps; None then too where none of them can be read.

    Raises:
        UserError: where there were checkpoints, and none can be read: nothing starts over without being told to.
    """

    def put_aside(step: int, reason: str) -> None:
        if is_first():
            checkpoints.put_aside(step, reason=reason)
        say(f'{reason}; it is put aside, and the one before it taken')

    for step in shared(lambda: checkpoints.gone):
        put_aside(step, f'checkpoint {step} is gone')
    while steps := shared(lambda: [x for x in checkpoints.steps if before is None or x < before]):
        try:
            checkpoints.check(steps[-1])
            return checkpoints.restore(steps[-1], shapes)
        except Damaged as damage:
            put_aside(steps[-1], str(damage))
    if before is None and (lost := shared(lambda: checkpoints.lost)):
        raise UserError(
            f'none of the checkpoints of this run can be read any more ({", ".join(map(str, lost))}); remove its '
            'directory, or choose another --workdir, to train from the start'
        )
    return None


def restore(run: str, experiment: Experiment, mesh: jax.sharding.Mesh, batch: Shapes) -> TrainState:
    """The newest state of a run, which may be training at this moment; changes nothing on disk.

    Raises:
        UserError: where it has none, or it is damaged.
    """
    if not steps_in(path_of(run) / 'checkpoints'):
        raise UserError(f'{run}: has no checkpoint yet; train it first')
    with reading(path_of(run)) as checkpoints:
        newest = checkpoints.steps[-1]
        checkpoints.check(newest)
        return checkpoints.restore(newest, abstract_state(experiment, batch, mesh))
