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
from mmjax.train.files import read_json, write_json
from mmjax.train.lock import locked, owner_of
from mmjax.train.manifest import code_version

# What may change when a run goes on: where and how often it writes, on how many devices it computes, and what it does
# where numbers or data are wrong.
MAY_CHANGE = ('mesh', 'checkpoint', 'log', 'patience', 'bad_records', 'guard')


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
def claimed(run: AnyPath, experiment: Experiment) -> Iterator[None]:
    """Makes the directory of a run, or checks that it is this experiment's; holds its lock until the block ends.

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
        _settle(run, experiment)
        yield


def load_experiment(run: str, *, trust: Sequence[str] = ()) -> Experiment:
    """The experiment of a run directory, exactly as it was."""
    experiment = config.load(_read_config(path_of(run)), trust=trust)
    if not isinstance(experiment, Experiment):
        raise UserError(f'{run}/config.json: holds a {type(experiment).__name__}, not an Experiment')
    return experiment


def _settle(run: AnyPath, experiment: Experiment) -> None:
    """Writes config.json, or compares it with the experiment."""
    new = config.dump(experiment)
    if not (run / 'config.json').exists():
        write_json(run / 'config.json', {'commit': code_version()['commit'], **new})
        return
    old = _read_config(run)
    # Loaded and dumped again, so that fields that were added since have the value that the run had.
    before = config.dump(config.load(old, trust=packages_of(experiment)))
    different = [entry for entry in config.diff(before, new) if entry[0].split('.')[0] not in MAY_CHANGE]
    if [path for path, _, _ in different] == ['steps']:
        _, was, wanted = different[0]
        if wanted > was and not experiment.optim.schedule.depends_on_length():
            (run / 'results.json').unlink(missing_ok=True)
            different = []
    if different:
        path, was, wanted = different[0]
        more = f' and {len(different) - 1} more' if len(different) > 1 else ''
        raise UserError(
            f'{run}: belongs to another config: {path} was {was} and is {wanted}{more}; choose another --workdir, or '
            'remove the directory'
        )
    write_json(run / 'config.json', {'commit': old.get('commit'), **new})


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
