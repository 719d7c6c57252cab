"""`mmjax plan`: a config, what was changed in it, and hardware; the result is flat, as it stands in its JSON."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmjax.config import load_stages, override, override_stages
from mmjax.errors import UserError, nearest
from mmjax.experiment import NO_INIT, Experiment
from mmjax.plan.calibration import calibration
from mmjax.plan.kept import packed
from mmjax.plan.parts import say
from mmjax.plan.scaling import scaling as scaling_of
from mmjax.plan.search import search as search_for
from mmjax.plan.single import only_compile, plan
from mmjax.plan.topologies import generation_named, parse_topology
from mmjax.train.files import check_writable
from mmjax.train.stages import by_name

FLAGS = ('--topology', '--slices', '--stage', '--search', '--batches', '--scaling', '--report', '--text', '--json')


def plan_command(
    file: str,
    changes: Sequence[str],
    *,
    topology: str,
    slices: int = 1,
    stage: str = '',
    search: bool = False,
    batches: str = '',
    scaling: bool = False,
    text: str | None = None,
    report: str | None = None,
) -> dict[str, Any]:
    """Plans what a config file returns, with changes as on the command line. See `plan`, `search`, `scaling`.

    stage: which experiment of a config that returns several. search: look for the best mesh, remat, accumulation and,
    of those named with commas in `batches`, global batch.
    scaling: also at other sizes; the topology may then be a generation alone. text: where the
    compiled program goes, gzipped. report: where a page with pictures goes.

    Raises:
        UserError: on hardware that does not exist, a config that cannot run on it, or a compiler that is not here.
    """
    if text and (search or scaling):
        raise UserError('--text: is of one program, and --search and --scaling compile several; plan one of them')
    if search and scaling:
        raise UserError('--scaling: is of one mesh; --search first, then --scaling of what it finds')
    if scaling and slices > 1:
        raise UserError('--slices: --scaling goes from the smallest slice to the largest; leave it out')
    if batches and not search:
        raise UserError('--batches: says what --search chooses from; add --search, or leave it out')
    for name, place in (('--text', text), ('--report', report)):
        if place:
            check_writable(Path(place), flag=name)
    only_compile()
    experiment = _experiment(file, changes, stage=stage)  # first, for --help, which needs no hardware
    hardware = None if scaling and ':' not in topology else parse_topology(topology, slices=slices)
    program = ''
    if hardware is None:
        result = scaling_of(experiment, generation_named(topology))
    elif scaling:
        result = scaling_of(experiment, hardware.generation, base=hardware)
    elif search:
        result = search_for(experiment, hardware, batches=_batches(batches))
    else:
        result, program, _ = plan(experiment, hardware)
    result |= calibration(result)
    if text and program:
        Path(text).write_bytes(packed(program))
    elif text:
        say('plan', f'--text: {text} is not written: of a step that does not fit there is no program')
    if report:
        from mmjax.plan.report import write_report

        write_report(Path(report), result, title=f'{experiment.name} on {result["topology"]}')
    return result


def _batches(named: str) -> tuple[int, ...]:
    found = tuple(int(x) for x in named.split(',') if x.strip().isdigit() and int(x))
    if named and len(found) != len(named.split(',')):
        raise UserError(f'--batches {named}: global batches, as in 512,1024')
    return found


def _experiment(file: str, changes: Sequence[str], *, stage: str) -> Experiment:
    written = load_stages(file, kind=Experiment)
    prog = f'mmjax plan {file}'
    if not isinstance(written, tuple):
        if stage:
            raise UserError(f'--stage {stage}: {file} returns one experiment, no stages; leave it out')
        return override(written, changes, prog=prog, known_flags=FLAGS)
    stages = override_stages(by_name(written), changes, prog=prog, known_flags=FLAGS)
    if stage not in stages:
        what = f'unknown stage {stage!r}{nearest(stage, stages)}' if stage else f'{file} has several stages; name one'
        raise UserError(f'--stage: {what} (there are {", ".join(stages)})')
    # Where its parameters come from changes nothing of the step.
    return dataclasses.replace(stages[stage], init_from=NO_INIT)
