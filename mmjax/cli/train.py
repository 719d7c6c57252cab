"""The verbs `train` and `eval`."""

import dataclasses
from typing import Annotated, Any, ClassVar

import tyro

from mmjax.cli.verb import Run, Spanning, Trusting, checked
from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Spanning):
    """Train, evaluate and report; the same command again goes on where a run stopped.

    After CONFIG come changes to it, in any order: PATH=NAME swaps a part (model.fusion=bottleneck), --PATH VALUE sets a
    field (--steps 200 --model.fusion.num-tokens 8). `mmjax train CONFIG --help` lists the fields of a config. Where it
    has stages, PATH changes each of them, and STAGE.PATH one. --init-from.run RUN starts from the parameters of a run.
    """

    takes_overrides: ClassVar[bool] = True

    config: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar='CONFIG[:FUNCTION]',
            help='Python file with def experiment() -> Experiment, or a tuple of them; or its function of this name',
        ),
    ]
    workdir: Annotated[
        str | None,
        tyro.conf.arg(
            metavar='DIR', help='run directory', help_behavior_hint='(default: runs/CONFIG, with -HASH if changed)'
        ),
    ] = None

    restarts: Annotated[
        int, tyro.conf.arg(metavar='N', help='start again where it dies, as often as that; a process of its own trains')
    ] = 0

    allow_drift: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(
            metavar='FIELD', help='go on though this differs from how the run began (optim.decay, code, data)'
        ),
    ] = ()

    @property
    def restarts_left(self) -> int:
        if self.restarts < 0:
            raise UserError(f'--restarts: {self.restarts} is below 0')
        return self.restarts

    def run(self, rest: list[str]) -> dict[str, Any]:
        from mmjax.train.command import train_command

        return train_command(self.config, rest, workdir=self.workdir, allow_drift=self.allow_drift)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Spanning, Trusting):
    """Evaluate the newest checkpoint of a run.

    After RUN come changes to its config, as for `mmjax train`.
    """

    takes_overrides: ClassVar[bool] = True

    directory: Run
    by: Annotated[str, tyro.conf.arg(metavar='CONFIG[:FUNCTION]', help='score by the evaluations of this config')] = ''

    def run(self, rest: list[str]) -> dict[str, Any]:
        from mmjax.train.score import evaluate

        return evaluate(checked(self.directory), by=self.by, overrides=rest, trust=self.trust)
