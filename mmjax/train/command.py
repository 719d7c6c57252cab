"""`mmjax train`: a config file, what was changed in it, and the directory that follows from both."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from mmjax.config import config_hash, load_stages, override, override_stages
from mmjax.config.files import name_of
from mmjax.experiment import Experiment
from mmjax.train import run
from mmjax.train.drift import SAME_RUN
from mmjax.train.stages import by_name, train_stages

FLAGS = ('--workdir', '--json', '--allow-drift', '--coordinator', '--processes', '--process')


def train_command(
    file: str, changes: Sequence[str], *, workdir: str | None = None, allow_drift: Sequence[str] = ()
) -> dict[str, float]:
    """Trains what a config file returns, one experiment or its stages, with changes as on the command line.

    file: FILE[:FUNCTION]. workdir: default runs/FILE, with -FUNCTION where one is named, and with a hash where anything
    was changed. allow_drift: see `train`.
    """
    written = load_stages(file, kind=Experiment)
    prog = f'mmjax train {file}'
    if isinstance(written, tuple):
        stages = override_stages(by_name(written), changes, prog=prog, known_flags=FLAGS)
        directory = workdir or _directory(file, written, tuple(stages.values()))
        return train_stages(stages, workdir=directory, config_file=file, allow_drift=allow_drift)
    experiment = override(written, changes, prog=prog, known_flags=FLAGS)
    directory = workdir or _directory(file, (written,), (experiment,))
    return run.train(experiment, workdir=directory, config_file=file, allow_drift=allow_drift)


def _directory(file: str, written: Sequence[Experiment], changed: Sequence[Experiment]) -> str:
    digests = []
    for before, now in zip(written, changed, strict=True):
        same = {name: getattr(before, name) for name in SAME_RUN}  # with these changed it is the same run
        digests.append(config_hash(dataclasses.replace(now, **same)))
    suffix = ''
    if digests != [config_hash(before) for before in written]:
        joined = digests[0] if len(digests) == 1 else hashlib.sha256(''.join(digests).encode()).hexdigest()
        suffix = f'-{joined[:8]}'
    return str(Path('runs', name_of(file) + suffix))
