"""Which processes train together: told by the environment, or by the cluster, which JAX detects itself.

    MMJAX_COORDINATOR=HOST:PORT    where process 0 can be reached
    MMJAX_PROCESSES=N              how many there are; 1: this one alone, whatever the cluster says
    MMJAX_PROCESS=I                which one this is, from 0

`mmjax train` and `mmjax eval` take each of them as a flag too, which counts before the variable: `--coordinator`,
`--processes`, `--process`.

Without them: TPU VM, GKE, Slurm and Open MPI, as `jax.distributed.initialize` knows them; else one process alone.
"""

import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from mmjax.errors import UserError

COORDINATOR, PROCESSES, PROCESS = 'MMJAX_COORDINATOR', 'MMJAX_PROCESSES', 'MMJAX_PROCESS'
FLAGS = {COORDINATOR: '--coordinator', PROCESSES: '--processes', PROCESS: '--process'}
ALONE = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')  # several such jobs on one node would want the same port
SECONDS = 300  # within which all have to be there
HEARTBEAT = 60  # seconds of silence after which a process counts as dead


def join(
    *, environ: Mapping[str, str] = os.environ, flags: Mapping[str, str] | None = None, timeout: int = SECONDS
) -> None:
    """Waits for the other processes of the group, if there is one. Must come before anything is computed.

    flags: what the command line says, by the name of the variable.

    Where they are not all there within `timeout` seconds this process prints so and exits with 2: JAX would abort it.

    Raises:
        UserError: on settings that are no group, a port that is taken, or a cluster that JAX cannot read.
    """
    given = settings(environ, flags=flags)
    if given == {} or (given is None and any(environ.get(name) == '1' for name in ALONE)):
        return
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    where = given['coordinator_address'] if given else 'the coordinator that the cluster names'
    count = f'{given["num_processes"]} processes' if given else 'all processes of the cluster'
    alarm = threading.Timer(
        timeout, _too_late, [f'{count} were to meet at {where} within {timeout} s, and did not; {_remedy(given)}']
    )
    alarm.daemon = True
    alarm.start()
    try:
        # JAX's own patience is longer, so that the message is ours.
        kind: dict[str, Any] = {'cluster_detection_method': 'deactivate'} if given else {}
        waits: dict[str, Any] = {'initialization_timeout': timeout + 60, 'heartbeat_timeout_seconds': HEARTBEAT}
        with warnings.catch_warnings():
            if 'JOB_COMPLETION_INDEX' not in environ:  # a pod of one's own is no group; JAX would warn of each
                warnings.filterwarnings('ignore', message='Kubernetes environment')
            jax.distributed.initialize(**(given or {}), **kind, **waits)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if given:
            raise UserError(f'{_told(COORDINATOR, flags)} {where}: {reason}') from error
        # No cluster; or a process that has computed already, which no group could take any more (a notebook, a test).
        if not reason.startswith('coordinator_address should be defined') and 'must be called before' not in reason:
            raise UserError(f'the cluster was not understood: {reason}; {_remedy(None)}') from error
    finally:
        alarm.cancel()


def settings(environ: Mapping[str, str], *, flags: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize` from the three variables; {} for one process alone, None: not given.

    flags: as of `join`.

    Raises:
        UserError: where some are missing, or a value is none of its kind.
    """
    said = {**environ, **(flags or {})}
    given = {name: said[name] for name in FLAGS if said.get(name)}
    told = {name: _told(name, flags) for name in FLAGS}
    if not given:
        return None
    numbers = {name: value for name, value in given.items() if name != COORDINATOR}
    for name, value in numbers.items():
        if not value.isascii() or not value.isdigit():
            raise UserError(f'{told[name]}: {value!r} is no whole number')
    if given == {PROCESSES: '1'}:
        return {}
    missing = [FLAGS[name] if flags else name for name in FLAGS if name not in given]
    if missing:
        raise UserError(f'{", ".join(told[name] for name in given)} without {" and ".join(missing)}; give all three')
    coordinator, processes, process = given[COORDINATOR], int(given[PROCESSES]), int(given[PROCESS])
    if not re.fullmatch(r'\S+:[1-9]\d{0,4}', coordinator):
        raise UserError(f'{told[COORDINATOR]}: {coordinator!r} is no HOST:PORT, such as node-0:8476')
    if process >= processes:
        raise UserError(
            f'{told[PROCESS]}: {process} is not below {told[PROCESSES]}, {processes}; the first process is 0'
        )
    if processes == 1:
        return {}
    return {'coordinator_address': coordinator, 'num_processes': processes, 'process_id': process}


def _told(name: str, flags: Mapping[str, str] | None) -> str:
    """What to call a setting to the one who gave it."""
    return FLAGS[name] if name in (flags or {}) else name


def _remedy(given: Mapping[str, Any] | None) -> str:
    if given:
        return 'is process 0 there, its port open, and were all of them started?'
    return f'give {COORDINATOR}, {PROCESSES} and {PROCESS}, or {PROCESSES}=1 to train in this process alone'


def _too_late(message: str) -> None:
    print(f'mmjax: error: {message}', file=sys.stderr, flush=True)
    os._exit(2)
