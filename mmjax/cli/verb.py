"""What every verb of the command line is made of."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import tyro

from mmjax.errors import UserError, nearest
from mmjax.storage import path_of

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar='RUN', help='a run directory')]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verb:
    """What every verb takes."""

    takes_overrides: ClassVar[bool] = False

    json: Annotated[
        str | None,
        tyro.conf.arg(metavar='FILE', help='also write the result as JSON; - prints it instead', help_behavior_hint=''),
    ] = None

    @property
    def joins(self) -> dict[str, str] | None:
        """What its flags say of the group that it joins, see `join`; None: it is one process, whatever there is."""
        return None

    @property
    def restarts_left(self) -> int:
        """How often a process of its own does the work anew where one dies; 0: this process does it."""
        return 0

    def run(self, rest: list[str]) -> dict[str, Any]:
        """Does the work and returns the result. `rest` holds the arguments that are not fields of the verb."""
        raise NotImplementedError

    def code(self, result: dict[str, Any]) -> int:
        """The exit code."""
        return 0

    def show(self, result: dict[str, Any]) -> None:
        """Prints a result for people to read."""
        for name, value in result.items():
            print(f'{name:32} {value:.4f}' if isinstance(value, float) else f'{name:32} {value}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spanning(Verb):
    """What a verb takes that many processes run together. The flags count before the variables MMJAX_…."""

    coordinator: Annotated[
        str | None,
        tyro.conf.arg(metavar='HOST:PORT', help='where the first of several processes is', help_behavior_hint=''),
    ] = None
    processes: Annotated[
        str | None, tyro.conf.arg(metavar='N', help='how many processes there are', help_behavior_hint='')
    ] = None
    process: Annotated[
        str | None, tyro.conf.arg(metavar='I', help='which one this is, from 0', help_behavior_hint='')
    ] = None

    @property
    def joins(self) -> dict[str, str] | None:
        from mmjax.distributed.join import COORDINATOR, PROCESS, PROCESSES

        given = {COORDINATOR: self.coordinator, PROCESSES: self.processes, PROCESS: self.process}
        return {name: value for name, value in given.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trusting(Verb):
    """What a verb takes that reads the config of a run."""

    trust: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar='PACKAGE', help="import classes of this package too, where the run's config names them"),
    ] = ()


def refuse(rest: Sequence[str], *, flags: Sequence[str]) -> None:
    """Raises UserError where there are arguments that a verb does not take. flags: those that it does."""
    if rest:
        raise UserError(f'unknown argument {rest[0]!r}{nearest(rest[0], flags)}')


def checked(run: str) -> str:
    """Returns the path of a run directory; raises UserError if it is none."""
    if not path_of(run).is_dir():
        names = [str(path) for path in path_of(run).parent.glob('*') if path.is_dir()]
        raise UserError(f'{run}: no such run directory{nearest(run, names)}')
    if not (path_of(run) / 'config.json').exists():
        raise UserError(f'{run}: holds no config.json, so it is not a run directory')
    return run
