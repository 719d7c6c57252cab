"""Checkpoints. The only module that knows Orbax."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import serialization
from orbax.checkpoint import checkpoint_managers

from mmjax.errors import UserError
from mmjax.paths import flat, nested
from mmjax.storage import AnyPath, absolute, is_url, path_of, write_bytes

DAMAGED = 'damaged'  # a directory beside the checkpoints: Orbax reads theirs


def _unexpected(record: logging.LogRecord) -> bool:
    """Orbax warns of every directory that it was asked to only read."""
    return not str(record.msg).startswith('Given directory is read only')


logging.getLogger('absl').addFilter(_unexpected)


class Damaged(UserError):
    """A checkpoint that was written whole cannot be read."""


class Checkpoints:
    """The directory RUN/checkpoints: `STEP/state`, the arrays, and `STEP/about`, the data position and the config.

    A save runs in the background while training goes on. A step that can be seen was written whole: on a disk Orbax
    renames its directory into place, in an object store it writes `commit_success.txt` last. What a killed process left
    behind is removed at the next start. Of a step that was damaged later there is `RUN/damaged/STEP`, see `put_aside`.
    """

    def __init__(self, directory: str | AnyPath, *, keep: int | None):
        """keep: how many of the newest whole steps stay; None: only reads, leaves alone what another process writes.

        Raises:
            UserError: where the directory is in a store that Orbax does not write to.
        """
        self._directory = path_of(absolute(path_of(directory)))
        if is_url(self._directory) and not os.fspath(self._directory).startswith('gs://'):
            raise UserError(f'{self._directory}: checkpoints go to a disk or to gs://, which is what Orbax writes to')
        options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
        if keep is not None:
            policy = _NewestWhole(keep, self._directory)
            options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    @property
    def steps(self) -> list[int]:
        """The steps that are whole, as far as is known, in order."""
        return sorted(set(self._manager.all_steps()) - damaged_in(self._directory).keys())

    def save(self, step: int, state: Any, *, about: dict[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied, so that the next step may donate them."""
        if step in self.steps:
            return
        if step in self._manager.all_steps():  # one that was put aside: the same step is written anew
            self._manager.delete(step)
            (self._directory.parent / DAMAGED / str(step)).unlink(missing_ok=True)
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        self._manager.save(step, args=arguments, force=True)  # also one before a step that was put aside

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, with the shapes, dtypes and shardings of `like` (`jax.ShapeDtypeStruct` leaves).

        Raises:
            UserError: where the saved tree does not fit; `Damaged`: where the step cannot be read.
        """
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))
        except Exception as error:  # TensorStore and Orbax raise several kinds for either
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            if self._is_of_another(step, like):
                raise UserError(f'checkpoint {step} does not fit the experiment: {first}') from error
            raise Damaged(f'{self._directory / str(step)}: is damaged ({first})') from error
        # Orbax may give host scalars, or arrays that share memory with its buffers; the train step donates its state.
        return jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), restored['state'], like)

    def put_aside(self, step: int, *, reason: str) -> None:
        """Leaves a damaged step out from now on, until the same step is saved anew. An object beside the checkpoints
        says so: nothing is renamed.

        Raises:
            UserError: where several processes train, which would have to agree.
        """
        if jax.process_count() > 1:
            raise UserError(f'{reason}; remove it, and the run goes on from the one before')
        marker = self._directory.parent / DAMAGED / str(step)
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(marker, f'{reason}\n'.encode())

    def _is_of_another(self, step: int, like: Any) -> bool:
        """Whether the tree of a step can be read and is not that of `like`."""
        try:
            saved = ocp.PyTreeCheckpointHandler().metadata(self._state(step)).tree
        except Exception:
            return False
        return _shapes(saved) != _shapes(serialization.to_state_dict(like))

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


def steps_in(directory: AnyPath) -> list[int]:
    """The whole steps of a directory, in order; none where there is no such directory."""
    if not directory.is_dir():
        return []
    with contextlib.closing(Checkpoints(directory, keep=None)) as checkpoints:
        return checkpoints.steps


def damaged_in(directory: AnyPath) -> dict[int, AnyPath]:
    """The steps of a directory of checkpoints that were put aside, with their markers."""
    markers = directory.parent / DAMAGED
    return {int(path.name): path for path in markers.iterdir() if path.name.isdigit()} if markers.is_dir() else {}


@dataclasses.dataclass
class _NewestWhole(checkpoint_managers.PreservationPolicy):
    """The newest `keep` of the steps that are not put aside, and those that are."""

    keep: int
    directory: AnyPath

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        damaged = damaged_in(self.directory)
        whole = [found.step for found in checkpoints if found.step not in damaged]
        kept = {*sorted(whole)[-self.keep :], *damaged}
        return [found.step in kept for found in checkpoints]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {path: tuple(x.shape) for path, x in flat(tree).items() if hasattr(x, 'shape')}
