"""The verb `plan`."""

import dataclasses
from typing import Annotated, Any, ClassVar

import tyro

from mmjax.cli.verb import Verb


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Compile the train step for hardware that is not here: does it fit, and what does it compute and send.

    After CONFIG come changes to it, as for `mmjax train` (--mesh.fsdp 64 --batch-size 128).
    """

    takes_overrides: ClassVar[bool] = True

    config: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar='CONFIG[:FUNCTION]', help='Python file with def experiment() -> Experiment'),
    ]
    topology: Annotated[
        str,
        tyro.conf.arg(
            metavar='NAME:AxB[xC]',
            help='such as v5p:8x8x8 or v5e:16x16; h100:8x8 is 8 nodes of 8 GPUs',
            help_behavior_hint='(required)',
        ),
    ] = ''
    slices: Annotated[
        int, tyro.conf.arg(metavar='N', help='how many such slices, joined by the data-centre network')
    ] = 1
    stage: Annotated[str, tyro.conf.arg(metavar='NAME', help='which stage of a config that has several')] = ''
    search: Annotated[
        bool, tyro.conf.arg(help='look for the best mesh, remat policy and accumulation; compiles up to eight times')
    ] = False
    batches: Annotated[
        str,
        tyro.conf.arg(
            metavar='N,N,...',
            help='global batches that --search chooses from, by examples a second (default: that of the config)',
            help_behavior_hint='',
        ),
    ] = ''
    scaling: Annotated[
        bool, tyro.conf.arg(help='also from 16 chips to the largest slice; --topology may be a generation alone')
    ] = False
    text: Annotated[
        str | None,
        tyro.conf.arg(metavar='FILE.gz', help='also write the compiled program, gzipped', help_behavior_hint=''),
    ] = None

    report: Annotated[
        str | None,
        tyro.conf.arg(metavar='FILE.html', help='also write a page with pictures', help_behavior_hint=''),
    ] = None

    def run(self, rest: list[str]) -> dict[str, Any]:
        from mmjax.plan.command import plan_command

        return plan_command(
            self.config,
            rest,
            topology=self.topology,
            slices=self.slices,
            stage=self.stage,
            search=self.search,
            batches=self.batches,
            scaling=self.scaling,
            text=self.text,
            report=self.report,
        )

    def show(self, result: dict[str, Any]) -> None:
        from mmjax.plan.told import lines

        print(*lines(result), sep='\n')
