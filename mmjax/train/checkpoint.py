"""Checkpoints. The only module that knows Orbax."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mmjax.errors import UserError
from mmjax.paths import flat, nested


def _unexpected(record: logging.LogRecord) -> bool:
    """Orbax warns of every directory that it was asked to only read."""
    return not str(record.msg).startswith('Given directory is read only')


logging.getLogger('absl').addFilter(_unexpected)


class Checkpoints:
    """The directory RUN/checkpoints: `STEP/state`, the arrays, and `STEP/about`, the data position and the config.

    A save runs in the background while training goes on; Orbax renames a directory into place when it is written whole,
    so a step that can be seen is whole, and what a killed process left behind is removed at the next start.
    """

    def __init__(self, directory: str | Path, *, keep: int | None):
        """keep: how many of the newest steps stay; None: only reads, and leaves what another process writes alone."""
        options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
        if keep is not None:
            policy = checkpoint_managers.LatestN(keep)
            options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        self._directory = Path(directory).absolute()
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    @property
    def steps(self) -> list[int]:
        """The steps on disk, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, *, about: dict[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied, so that the next step may donate them."""
        if step not in self.steps:
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
            )

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, with the shapes, dtypes and shardings of `like` (`jax.ShapeDtypeStruct` leaves).

        Raises:
            UserError: where the saved tree does not fit.
        """
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))
        except ValueError as error:
            raise UserError(f'checkpoint {step} does not fit the experiment: {str(error).splitlines()[0]}') from error
        # Orbax may give host scalars, or arrays that share memory with its buffers; the train step donates its state.
        return jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), restored['state'], like)

    def leaves(self, step: int, *, part: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the arrays in 'params' or 'ema', by their paths; none where that is None."""
        tree = ocp.PyTreeCheckpointHandler().metadata(self._state(step)).tree.get(part)
        return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in flat(tree or {}).items()}

    def restore_some(self, step: int, like: Mapping[str, jax.ShapeDtypeStruct], *, part: str) -> dict[str, jax.Array]:
        """The arrays of 'params' or 'ema' with these paths, in dtypes and shardings of `like`; no others are read."""
        item = {part: nested(like)}
        arguments = ocp.checkpoint_utils.construct_restore_args(item)
        restored = ocp.PyTreeCheckpointHandler().restore(
            self._state(step), args=ocp.args.PyTreeRestore(item=item, restore_args=arguments, partial_restore=True)
        )
        return {path: jax.device_put(x, like[path].sharding) for path, x in flat(restored[part]).items()}

    def wait(self) -> None:
        """Returns when everything that was saved is on disk."""
        self._manager.wait_until_finished()

    def _state(self, step: int) -> Any:
        """A path, which Orbax declares as one of its own kind."""
        return self._directory / str(step) / 'state'

    def close(self) -> None:
        self._manager.close()
