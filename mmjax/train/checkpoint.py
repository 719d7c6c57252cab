"""Checkpoints. The only module that knows Orbax."""

import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mmjax.distributed.group import is_first, say, shared
from mmjax.errors import UserError
from mmjax.failpoints import failpoint
from mmjax.paths import flat, nested
from mmjax.storage import AnyPath, absolute, is_url, path_of, room, write_bytes
from mmjax.train.digests import Leaves, digests, kinds
from mmjax.train.seals import Sealer, is_whole

MARGIN = 1.2  # times the bytes of the arrays: what has to be free before a checkpoint is begun
MIB = 2**20
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
    behind is removed at the next start.

    A step that was damaged later is found by its files, which are sealed as soon as they are there (`seals.py`), and by
    its arrays, whose digests are saved with it (`digests.py`). It is left out from then on, see `put_aside`.
    """

    def __init__(self, directory: str | AnyPath, *, keep: int | None):
        """keep: how many of the newest whole steps stay; None: only reads, leaves alone what another process writes.

        Raises:
            UserError: where the directory is in a store that Orbax does not write to.
        """
        self._directory = path_of(absolute(path_of(directory)))
        if is_url(self._directory) and not os.fspath(self._directory).startswith('gs://'):
            raise UserError(f'{self._directory}: checkpoints go to a disk or to gs://, which is what Orbax writes to')
        self._options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
        if keep is not None:
            policy = _NewestWhole(keep, self._directory)
            self._options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=self._options)
        self._sealer, self._saving = Sealer(self._directory), -1

    @property
    def steps(self) -> list[int]:
        """The steps that are whole, as far as is known, in order."""
        return steps_in(self._directory)

    @property
    def gone(self) -> list[int]:
        """The steps after the newest that were there, whole, and are not any more; nobody has said so yet."""
        newest = max([*self.steps, *damaged_in(self._directory)], default=-1)
        return [step for step in self._sealer.steps if step > newest]

    @property
    def lost(self) -> list[int]:
        """The steps that were put aside, in order."""
        return sorted(damaged_in(self._directory))

    def save(self, step: int, state: Any, *, about: dict[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied, so that the next step may donate them.

        Where the disk has no room it says so, and saves nothing: `steps` tells what there is.
        """
        failpoint('checkpoint/before')
        self._settle()
        there, aside = shared(lambda: [step in self._manager.all_steps(), step in damaged_in(self._directory)])
        if there and not aside:
            return
        needed = MARGIN * sum(x.nbytes for x in jax.tree.leaves(state))
        free = shared(lambda: min(room(self._directory), sys.float_info.max))
        if free < needed:
            say(f'mmjax: checkpoint {step} is not saved: {needed / MIB:.1f} MiB needed, {free / MIB:.1f} MiB are free')
            return
        if there:  # the same step is written anew
            self._manager.delete(step)
        if is_first():
            (self._directory.parent / DAMAGED / str(step)).unlink(missing_ok=True)
        self._sealer.expect(step)
        about = about | {'leaves': digests(state)}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        self._manager.save(step, args=arguments, force=True)  # also one before a step that was put aside
        self._saving = step
        self._sealer.begin(step)
        failpoint('checkpoint/saving')

    def check(self, step: int) -> None:
        """Reads the files of a step and holds them against their seal; in a group, in all processes alike.

        Raises:
            Damaged: where they differ.
        """
        found = self._sealer.broken(step)
        if found:
            more = f' and {len(found) - 1} more' if len(found) > 1 else ''
            raise Damaged(f'{self._directory / str(step)}: is damaged ({found[0]}{more})')

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, with the shapes, dtypes and shardings of `like` (`jax.ShapeDtypeStruct` leaves).

        Raises:
            UserError: where the saved tree is another; `Damaged`: where it cannot be read, or has other numbers than
                were saved. In a group the latter is raised by all; a process that cannot read ends the group.
        """
        saved = self._saved(step)
        _check_kinds(step, saved, kinds(like))
        failpoint('checkpoint/restoring')
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))
        except Exception as error:  # TensorStore and Orbax raise several kinds
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise self._unreadable(step, shorten(first, 200)) from error
        # Orbax may give host scalars, or arrays that share memory with its buffers; the train step donates its state.
        state = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), restored['state'], like)
        self._check_numbers(step, saved, digests(state))
        failpoint('checkpoint/restored')
        return state

    def _check_numbers(self, step: int, saved: Leaves, found: Leaves) -> None:
        other = [path for path, x in found.items() if x.split()[-1] != saved[path].split()[-1]]
        if other:
            more = f' and {len(other) - 1} more' if len(other) > 1 else ''
            raise Damaged(f'{self._directory / str(step)}: is damaged (other numbers in {other[0]}{more})')

    def put_aside(self, step: int, *, reason: str) -> None:
        """Leaves a damaged step out from now on, until the same step is saved anew. An object beside the checkpoints
        says so: nothing is renamed.
        """
        marker = self._directory.parent / DAMAGED / str(step)
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(marker, f'{reason}\n'.encode())

    def _unreadable(self, step: int, why: str) -> UserError:
        """What a step is told to be that Orbax cannot read. Where its files are what they were, nothing is damaged: a
        store does not answer, or memory is short. In a group others have read their parts, and cannot go on with
        another step: the next start does.
        """
        if self._sealer.is_sound(step):
            return UserError(f'{self._directory / str(step)}: cannot be read, though its files are whole: {why}')
        damage = Damaged(f'{self._directory / str(step)}: is damaged ({why})')
        if jax.process_count() == 1:
            return damage
        self.put_aside(step, reason=str(damage))
        return UserError(f'{damage}; it is put aside, and the same command goes on from the one before')

    def _saved(self, step: int) -> Leaves:
        """What its arrays were when a step was saved."""
        try:
            return self.about(step)['leaves']
        except Exception as error:
            raise Damaged(f'{self._directory / str(step)}: is damaged (about: {error})') from error

    def about(self, step: int) -> dict[str, Any]:
        """What was saved beside the arrays of a step: the data position, the config, and what each array was."""
        return dict(ocp.JsonCheckpointHandler().restore(self._part(step, 'about')))

    def leaves(self, step: int, *, part: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the arrays in 'params' or 'ema', by their paths; none where that is None."""
        tree = ocp.PyTreeCheckpointHandler().metadata(self._part(step, 'state')).tree.get(part)
        return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in flat(tree or {}).items()}

    def restore_some(self, step: int, like: Mapping[str, jax.ShapeDtypeStruct], *, part: str) -> dict[str, jax.Array]:
        """The arrays of 'params' or 'ema' with these paths, in dtypes and shardings of `like`; no others are read."""
        item = {part: nested(like)}
        arguments = ocp.checkpoint_utils.construct_restore_args(item)
        restored = ocp.PyTreeCheckpointHandler().restore(
            self._part(step, 'state'),
            args=ocp.args.PyTreeRestore(item=item, restore_args=arguments, partial_restore=True),
        )
        return {path: jax.device_put(x, like[path].sharding) for path, x in flat(restored[part]).items()}

    def wait(self) -> None:
        """Returns when everything that was saved is on disk, or has failed."""
        self._settle()
        self._sealer.wait()

    def _settle(self) -> None:
        """Ends the save that is under way. One that failed is taken back, with what it had written: training goes on.
        In a group the others wait for the part that is missing, so there it ends the run.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # of TensorStore, Orbax or the disk
            if jax.process_count() > 1:
                raise
            say(f'mmjax: checkpoint {self._saving} is not saved: {shorten(str(error), 200)}')
            self._manager = ocp.CheckpointManager(self._directory, options=self._options)  # which tidies up

    def _part(self, step: int, part: str) -> Any:
        """A path, which Orbax declares as one of its own kind."""
        return self._directory / str(step) / part

    def close(self) -> None:
        self._manager.close()
        self._sealer.close()


def reading(run: AnyPath) -> contextlib.closing[Checkpoints]:
    """The checkpoints of a run, to be read alone: `with reading(run) as checkpoints:`."""
    return contextlib.closing(Checkpoints(run / 'checkpoints', keep=None))


def steps_in(directory: AnyPath) -> list[int]:
    """The whole steps of a directory, in order; none where there is no such directory."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    found = {int(name) for name in names if name.isdigit() and is_whole(directory / name)}
    return sorted(found - damaged_in(directory).keys())


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
        failpoint('checkpoint/removing')
        damaged = damaged_in(self.directory)
        whole = [found.step for found in checkpoints if found.step not in damaged]
        kept = {*sorted(whole)[-self.keep :], *damaged}
        return [found.step in kept for found in checkpoints]


def _check_kinds(step: int, saved: Leaves, wanted: Leaves) -> None:
    for path in sorted({*saved, *wanted}):
        was, now = saved.get(path, 'absent').split()[0], wanted.get(path, 'absent')
        if was != now:
            raise UserError(f'checkpoint {step} does not fit the experiment: {path} was {was} and is {now}')
