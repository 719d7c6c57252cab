"""Stages of one config, one after the other: each a run of its own, WORKDIR/STAGE."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from mmjax.config import dump
from mmjax.distributed.group import is_first
from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment
from mmjax.paths import flat
from mmjax.storage import AnyPath, path_of
from mmjax.train.init import match, newest_step, told
from mmjax.train.prepare import Prepared, has_checkpoint, prepare
from mmjax.train.run import is_finished, train
from mmjax.train.vocabulary import check_loaded


def by_name(stages: Sequence[Experiment]) -> dict[str, Experiment]:
    """Stages by their names.

    Raises:
        UserError: on a name that stands twice, names no directory, or is that of a field, which an override would mean.
    """
    fields = [field.name for field in dataclasses.fields(Experiment)]
    found: dict[str, Experiment] = {}
    for stage in stages:
        if not re.fullmatch(r'[A-Za-z]\w*', stage.name) or stage.name in fields:
            raise UserError(
                f"stage '{stage.name}': its name is a directory and begins paths of overrides; give it one of letters, "
                'digits and _ that is no field of an experiment'
            )
        if stage.name in found:
            raise UserError(f"stage '{stage.name}': two stages have this name; each is a directory of its own")
        found[stage.name] = stage
    return found


def train_stages(
    stages: Mapping[str, Experiment], *, workdir: str, config_file: str | None = None, allow_drift: Sequence[str] = ()
) -> dict[str, float]:
    """Trains each stage that is not finished, in their order; returns all results, as `STAGE/EVALUATION/METRIC`.

    Killed and called again it goes on with the stage that was not finished. That every one can run, and finds in the
    stage or run it starts from what it wants, is checked before the first one trains.

    Raises:
        UserError: on what `train` refuses, or links between stages that cannot be (see `check_stages`).
    """
    check_stages(stages)
    directory = path_of(workdir)
    prepared: dict[str, Prepared] = {}
    for name, stage in stages.items():
        run, init = directory / name, stage.init_from
        _check_source(run, stage)
        if is_finished(run):
            continue
        waits = init.stage in prepared  # for a stage that is still to train
        prepared[name] = prepare(stage, run=None if waits else run)
        if waits:
            old, new = (flat(prepared[n].shapes.params) for n in (init.stage, name))
            source = f'stage {init.stage}'
            found = match(init, old, new, source=source)
            check_loaded(stage, dump(stages[init.stage]), found.loaded, source=source)
    results: dict[str, float] = {}
    for name, stage in stages.items():
        _check_source(directory / name, stage)
        scores = train(stage, workdir=str(directory / name), config_file=config_file, allow_drift=allow_drift)
        results |= {f'{name}/{metric}': value for metric, value in scores.items()}
    return results


def check_stages(stages: Mapping[str, Experiment]) -> None:
    """Raises UserError on a stage that starts from itself, a later or an unknown one, or whose name was changed."""
    earlier: list[str] = []
    for name, stage in stages.items():
        if stage.name != name:
            raise UserError(f"stage {name}: is called '{stage.name}' now; its name is that of its directory, leave it")
        source = stage.init_from.stage
        if source and source not in earlier:
            where = 'itself' if source == name else 'a later stage' if source in stages else 'no stage'
            hint = nearest(source, earlier) or f' (earlier ones: {", ".join(earlier) or "none"})'
            raise UserError(f"stage {name}: init_from.stage '{source}' is {where}{hint}")
        earlier.append(name)


def _check_source(run: AnyPath, stage: Experiment) -> None:
    """Raises UserError where a stage has begun and the one that it started from has gone on since."""
    if not is_first() or not (stage.init_from.stage and (run / 'init.json').exists() and has_checkpoint(run)):
        return  # what the first process refuses is refused for all
    source, began = run.parent / stage.init_from.stage, told(run)['step']
    if has_checkpoint(source) and (now := newest_step(source)) != began:
        raise UserError(
            f'{run}: started from step {began} of {source}, which is at step {now} now; remove {run} to train it anew'
        )
