"""The compiler for TPU on a machine that has none: what it is told before it is loaded, and one process at a time."""

import fcntl
import functools
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any, TextIO

import jax
from jax.experimental import topologies

from mmjax.errors import UserError
from mmjax.plan.topologies import Topology

# libtpu asks the machine which TPU it sits on; a machine that has none is asked for nothing and complains of nothing.
# The names mean no hardware of the plan: that is the topology's.
_NO_HARDWARE = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_ACCELERATOR_TYPE': 'v5e-4',
    'TPU_LOG_DIR': 'disabled',
}


def tpu_devices(topology: Topology) -> list[Any]:
    """Devices that are not here, for which JAX can compile: of all slices, in no order of use (see `MeshShape.build`).

    Raises:
        UserError: where libtpu is not installed, or another process of this machine is using it.
    """
    if importlib.util.find_spec('libtpu') is None:
        raise UserError(
            'plan: this Python has no libtpu, the compiler for TPU; `scripts/mmjax plan` without MMJAX_PYTHON makes an '
            f"environment that has it, or install it here: pip install 'jax[tpu]=={jax.__version__}'"
        )
    for name, value in _NO_HARDWARE.items():
        os.environ.setdefault(name, value)
    _claim()
    options: dict[str, Any] = {'wrap': topology.wrap, 'num_slices': topology.slices}
    if topology.generation.chip_config:
        options['chip_config_name'] = topology.generation.chip_config
    try:
        return list(topologies.get_topology_desc(platform='tpu', topology_name=topology.name, **options).devices)
    except jax.errors.JaxRuntimeError as error:
        if 'lockfile' not in str(error):
            raise
        raise UserError(
            'plan: another program on this machine has loaded libtpu, which works for one process at a time; wait '
            'until it ends (if none runs, remove /tmp/libtpu_lockfile)'
        ) from error


def lock_file() -> Path:
    """Says who plans on this machine; locked as long as that process lives."""
    return Path(tempfile.gettempdir(), f'mmjax-plan-{os.getuid()}.lock')


@functools.cache
def _claim() -> TextIO:
    """Takes the lock until this process ends, as libtpu keeps its own: dropped earlier, others would run into that."""
    file = lock_file()
    lock = file.open('a+')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or '?'
        lock.close()
        raise UserError(
            f'plan: process {holder} is planning on this machine ({file}), and libtpu works for one process at a time; '
            'wait until it ends'
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f'{os.getpid()}\n')
    lock.flush()
    return lock
