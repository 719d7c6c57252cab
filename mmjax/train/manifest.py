"""Where a run came from: code, versions, device, data."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import mmjax
from mmjax.config import config_hash, dump
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.storage import AnyPath
from mmjax.train.compiler import compiler_options
from mmjax.train.drift import MUST, Change, around, rule_around, settle
from mmjax.train.files import read_json, write_json

PACKAGES = (
    'mmjax',
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'grain',
    'tensorflow-datasets',
    'einops',
    'numpy',
)
BESIDE = ('attribution', 'cli', 'faults', 'plan', 'study')  # rooms of the package that training never enters


def manifest(experiment: Experiment, *, parameters: int, config_file: str | None) -> dict[str, Any]:
    """Everything beside the config that a result may depend on, and what is needed to read it (names of classes)."""
    sources = {f'train/{name}'.rstrip('/'): data.source for name, data in experiment.data.parts.items()}
    sources |= {name: evaluation.data.source for name, evaluation in experiment.evals.items()}
    device = jax.devices()[0]
    return {
        'config_file': config_file and os.path.relpath(config_file),
        'config_hash': config_hash(experiment),
        **code_version(),
        'code': code_of(experiment),
        'packages': {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
        'python': platform.python_version(),
        'platform': platform.platform(),
        'device': {'kind': device.device_kind, 'count': jax.device_count(), 'processes': jax.process_count()},
        'xla_flags': os.environ.get('XLA_FLAGS', ''),
        'compiler_options': compiler_options(device, deterministic=experiment.deterministic) or {},
        'parameters': parameters,
        'data': {name: source.open().fingerprint for name, source in sources.items()},  # opened, not read
        'labels': {field: list(names) for field, names in experiment.data.open().labels.items()},
    }


def record_manifest(
    run: AnyPath, now: dict[str, Any], *, allow: Sequence[str] = (), changes: Sequence[Change] = ()
) -> None:
    """Writes manifest.json; where the run was begun before, adds what has changed since to its list `resumed`.

    allow: fields whose drift is allowed. changes: of the config, which are added too.

    Raises:
        UserError: where data, labels, code or packages are not those that the run was begun with.
    """
    path = run / 'manifest.json'
    if not path.exists():
        write_json(path, now)
        return
    first = read_manifest(run)
    last = history(first)[-1]
    heading = f'{run}: has changed since it began'
    told = settle(around(last, now), rule_around, allow=allow, heading=heading)
    entry = {name: now[name] for change in told if (name := change.path.split('.')[0]) in now}
    if changes:
        entry['config'] = [list(change) for change in changes]
    if not entry:
        return
    allowed = [change.path for change in told if rule_around(change) == MUST]
    if allow and (allowed or changes):
        entry['allowed'] = list(allow)
    if last.get('config_hash') != now['config_hash']:
        entry['config_hash'] = now['config_hash']
    write_json(path, first | {'resumed': [*first.get('resumed', []), entry]})


def read_manifest(run: AnyPath) -> dict[str, Any]:
    """Raises UserError where there is no manifest.json, or one that this did not write."""
    path = run / 'manifest.json'
    found = read_json(path)
    for name, kind in {'data': dict, 'packages': dict, 'resumed': list}.items():
        if not isinstance(value := found.get(name, kind()), kind) or (name == 'data' and name not in found):
            raise UserError(f"{path}: '{name}' is {type(value).__name__}; it is not as it was written")
    if not all(isinstance(changes, dict) for changes in found.get('resumed', ())):
        raise UserError(f"{path}: 'resumed' holds what is no part of a run; it is not as it was written")
    return found


def history(first: dict[str, Any]) -> list[dict[str, Any]]:
    """What held for each part of a run: as it began, and after each time that it was resumed under something else."""
    parts = [first]
    for changes in first.get('resumed', ()):
        parts.append(parts[-1] | changes)
    return parts


def code_version() -> dict[str, Any]:
    """The commit of the source tree that runs, and whether any Python was changed since; None outside a checkout."""
    try:
        _git('ls-files', '--error-unmatch', 'mmjax/__init__.py')  # not an environment inside another checkout
        return {'commit': _git('rev-parse', 'HEAD'), 'dirty': bool(_git('status', '--porcelain', '--', '*.py'))}
    except (OSError, subprocess.CalledProcessError):
        return {'commit': None, 'dirty': None}


def code_of(experiment: Experiment) -> dict[str, str]:
    """SHA-256 of the source that decides what a run computes: of this package, without what training never enters, and
    of each other module that a class of the config is from.
    """
    root = Path(mmjax.__file__).parent
    files = {file.relative_to(root).as_posix(): file for file in sorted(root.rglob('*.py'))}
    own = hashlib.sha256()
    for name, file in files.items():
        if name.split('/')[0] not in BESIDE:
            own.update(f'{name}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n'.encode())
    found = {'mmjax': own.hexdigest()}
    for module in sorted(_modules(dump(experiment))):
        source = getattr(sys.modules.get(module), '__file__', None)
        if source and not f'{module}.'.startswith('mmjax.'):
            found[module] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return found


def _modules(dumped: Any) -> set[str]:
    """The modules of all classes in a dump."""
    parts = dumped.values() if isinstance(dumped, dict) else dumped if isinstance(dumped, list) else ()
    own = {str(dumped['class']).rpartition('.')[0]} if isinstance(dumped, dict) and 'class' in dumped else set()
    return own.union(*map(_modules, parts))


def other_code(run: AnyPath) -> str | None:
    """Returns the commits that trained a run where their package `mmjax` is not the one that runs now, else None."""
    for part in history(read_json(run / 'manifest.json')):
        commit = part['commit']
        try:
            changed = commit is None or part['dirty'] or _git('diff', '--name-only', commit, '--', 'mmjax')
        except (OSError, subprocess.CalledProcessError):  # this clone has no such commit
            changed = True
        if changed:
            return f'{commit}{", with changes that were not committed" if part["dirty"] else ""}'
    return None


def _git(*args: str) -> str:
    root = Path(mmjax.__file__).parent.parent
    return subprocess.run(('git', '-C', str(root), *args), capture_output=True, text=True, check=True).stdout.strip()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
