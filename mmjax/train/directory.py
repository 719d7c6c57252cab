"""A run directory: whose it is, and who may write into it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmjax import config
from mmjax.distributed.group import gathered, shared
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.storage import AnyPath, absolute, is_url, path_of
from mmjax.train.drift import MUST, Change, rule_of, settle
from mmjax.train.files import read_json, write_json
from mmjax.train.lock import locked, owner_of
from mmjax.train.manifest import code_version


def check_place(run: AnyPath) -> None:
    """Raises UserError where no checkpoint could be written to the directory of a run."""
    if is_url(run) and not os.fspath(run).startswith('gs://'):
        raise UserError(f'{run}: a run is on a disk or in gs://: Orbax writes checkpoints to no other store')


def check_common(run: AnyPath) -> None:
    """Raises UserError, in all processes, where some do not see the directory that the first has claimed: they would
    wait for one another at the first checkpoint.
    """
    place, owners = shared(lambda: absolute(run)), gathered(owner_of(run))  # a relative path is one of each process
    blind = [i for i, owner in enumerate(owners) if owner != owners[0]]
    if blind:
        which = f'process {blind[0]}' + (f', and {len(blind) - 1} more,' if len(blind) > 1 else '')
        raise UserError(
            f'{place}: {which} does not see what process 0 wrote there; use gs://, or a disk that all have at this path'
        )


@contextmanager
def claimed(run: AnyPath, experiment: Experiment, *, allow: Sequence[str] = ()) -> Iterator[list[Change]]:
    """Makes the directory of a run, or checks that it is this experiment's; holds its lock until the block ends. Gives
    what is otherwise in the config than it was, where that may be, or is allowed (see `drift.py`).

    Raises:
        UserError: where it cannot be written, holds something else or another run, or another process trains in it.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        there = [path.name for path in run.iterdir()] if run.is_dir() else []  # a store has no empty directory
        if 'config.json' not in there and set(there) - {'lock'}:
            raise UserError(f'{run}: is not empty and holds no run; choose another --workdir')
    except OSError as error:
        raise UserError(f'--workdir {run}: {error.strerror or error}') from error
    with locked(run):
        yield _settle(run, experiment, allow)


def load_experiment(run: str, *, trust: Sequence[str] = ()) -> Experiment:
    """The experiment of a run directory, exactly as it was."""
    experiment = config.load(_read_config(path_of(run)), trust=trust)
    if not isinstance(experiment, Experiment):
        raise UserError(f'{run}/config.json: holds a {type(experiment).__name__}, not an Experiment')
    return experiment


def _settle(run: AnyPath, experiment: Experiment, allow: Sequence[str]) -> list[Change]:
    """Writes config.json, or compares it with the experiment."""
    if not (run / 'config.json').exists():
        write_json(run / 'config.json', {'commit': code_version()['commit'], **config.dump(experiment)})
        return []
    # Loaded and dumped again, so that fields that were added since have the value that the run had.
    before = config.dump(config.load(_read_config(run), trust=packages_of(experiment)))
    changes = [Change(*entry) for entry in config.diff(before, config.dump(experiment))]
    longer = before['steps'] < experiment.steps and not experiment.optim.schedule.depends_on_length()
    allow = (*allow, 'steps') if longer else allow
    told = settle(
        changes, lambda change: rule_of(change.path), allow=allow, heading=f'{run}: belongs to another config'
    )
    if any(rule_of(change.path) == MUST for change in told):
        (run / 'results.json').unlink(missing_ok=True)  # they were of what it was
    return told


def record_config(run: AnyPath, experiment: Experiment) -> None:
    """Writes config.json as the run goes on, with the commit that began it."""
    write_json(run / 'config.json', {'commit': _read_config(run).get('commit'), **config.dump(experiment)})


def _read_config(run: AnyPath) -> dict[str, Any]:
    path = run / 'config.json'
    if not path.exists():
        raise UserError(f'{run}: holds no config.json, so it is not a run directory')
    return read_json(path)


def packages_of(experiment: Experiment) -> tuple[str, ...]:
    """The packages of the classes that an experiment is made of: the user named them, so they are trusted."""
    return _packages(config.dump(experiment))


def _packages(dumped: Any) -> tuple[str, ...]:
    """The packages of all classes in a dump."""
    if isinstance(dumped, list):
        return tuple(package for item in dumped for package in _packages(item))
    if not isinstance(dumped, dict):
        return ()
    own = (str(dumped['class']).split('.')[0],) if 'class' in dumped else ()
    return own + tuple(package for item in dumped.values() for package in _packages(item))
