"""What every verb of the command line is made of."""

import dataclasses
from typing import Annotated, Any, ClassVar

import tyro


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

    def run(self, rest: list[str]) -> dict[str, Any]:
        """Does the work and returns the result. `rest` holds the arguments that are not fields of the verb."""
        raise NotImplementedError

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
