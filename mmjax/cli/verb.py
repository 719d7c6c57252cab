"""What every verb of the command line is made of."""

import dataclasses
from typing import Annotated, Any, ClassVar

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verb:
    """What every verb takes."""

    takes_overrides: ClassVar[bool] = False
    spans_processes: ClassVar[bool] = False

    json: Annotated[
        str | None,
        tyro.conf.arg(metavar='FILE', help='also write the result as JSON; - prints it instead', help_behavior_hint=''),
    ] = None

    def run(self, rest: list[str]) -> dict[str, Any]:
        """Does the work and returns the result. `rest` holds the arguments that are not fields of the verb."""
        raise NotImplementedError

    def show(self, result: dict[str, Any]) -> None:
        """Prints a result for people to read."""
        for name, value in result.items():
            print(f'{name:32} {value:.4f}' if isinstance(value, float) else f'{name:32} {value}')
