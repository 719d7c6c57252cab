"""The verb `reproduce`."""

import dataclasses
from typing import Annotated, Any

import tyro

from mmjax.cli.verb import Run, Trusting, checked, refuse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduce(Trusting):
    """Train a run again from its directory alone, and tell whether the same came of it, bit for bit.

    Else: the first step and metric that differ, the first array, by how much, and what of config, code, data and
    environment is another. Exit code 0: identical; 1: not.
    """

    directory: Run
    until: Annotated[
        int | None, tyro.conf.arg(metavar='STEP', help='stop there', help_behavior_hint='(default: its last step)')
    ] = None
    workdir: Annotated[
        str | None,
        tyro.conf.arg(metavar='DIR', help='where to train', help_behavior_hint='(default: a temporary directory)'),
    ] = None

    def run(self, rest: list[str]) -> dict[str, Any]:
        refuse(rest, flags=('--until', '--workdir', '--trust', '--json'))
        run = checked(self.directory)
        from mmjax.train.reproduce import reproduce

        return reproduce(run, until=self.until, workdir=self.workdir, trust=self.trust)

    def show(self, result: dict[str, Any]) -> None:
        from mmjax.train.reproduce import lines

        print(*lines(result), sep='\n')

    def code(self, result: dict[str, Any]) -> int:
        return 0 if result['identical'] else 1
