"""`scripts/launch/local`: a group of processes on this machine, one a GPU, or several with virtual CPU devices each."""

import argparse
import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NoReturn

from mmjax.distributed.join import COORDINATOR, PROCESS, PROCESSES
from mmjax.errors import Preempted, UserError

GRACE = 5.0  # seconds for the others to end by themselves when one has failed; then they are told, then killed
TOLD = 20.0  # seconds for all to end, and to save before, where they are told from outside
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(command: Sequence[str], environments: Sequence[Mapping[str, str]], *, grace: float = GRACE) -> int:
    """Runs one process an environment until all have ended, and returns the exit code of the first that failed, or 0.

    Output of the first process is its own; lines of the others begin with `[i] `. Signals reach all of them, and leave
    them `TOLD` seconds to end. When one fails the others have `grace` seconds to end. Then, in either case, as many
    after SIGTERM, and they are killed.
    """
    processes: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    readers: list[threading.Thread] = []
    try:
        for i, environment in enumerate(environments):
            output = subprocess.PIPE if i else None
            # A session of its own: a terminal's interrupt comes once, from here.
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            processes.append(process)
            for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                if source:
                    readers.append(threading.Thread(target=_relay, args=[source, sink, i], daemon=True))
                    readers[-1].start()
        code = _wait(processes, received, grace=grace)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # also what it started, and left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    for reader in readers:
        reader.join(timeout=5)
    return code


def kept_up(start: Callable[[], int], *, restarts: int) -> int:
    """Starts something, such as a `launch`, again as often as that where it dies; returns its last exit code. What is
    done (0), wrong by the user's mistake (2), interrupted (130) or told to end (143) has not died.
    """
    while (code := start()) not in (0, 2, 130, Preempted.CODE) and restarts:
        restarts -= 1
        print(f'mmjax: died with exit code {code}; starting again ({restarts} left)', file=sys.stderr, flush=True)
    return code


def _wait(processes: Sequence[subprocess.Popen[bytes]], received: Sequence[int], *, grace: float) -> int:
    code, ends = 0, None
    escalation: Iterator[int] = iter((signal.SIGTERM, signal.SIGKILL))
    while None in [process.poll() for process in processes]:  # of all: each learns its own end
        failed = [process.returncode for process in processes if process.returncode]
        if failed and not code:
            code = _exit_code(failed[0])
        if (failed or received) and ends is None:
            ends = time.monotonic() + (grace if failed else TOLD)
        if ends is not None and time.monotonic() > ends:
            number = next(escalation, signal.SIGKILL)
            for process in processes:
                if process.poll() is None:
                    process.send_signal(number)
            ends = time.monotonic() + grace
        time.sleep(0.05)
    return code or next((_exit_code(process.returncode) for process in processes if process.returncode), 0)


def _exit_code(returncode: int) -> int:
    """As a shell counts: 128 + the signal that ended it."""
    return 128 - returncode if returncode < 0 else returncode


def _relay(source: IO[bytes], sink: IO[str], number: int) -> None:
    for line in source:
        sink.write(f'[{number}] {line.decode(errors="replace")}')
        sink.flush()


def environments(
    *, processes: int | None, devices: int | None, gpus: int, port: int, environ: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """The environment of each process. devices: virtual ones of the CPU in each; None: one GPU a process.

    Raises:
        UserError: where a number is below 1, or there are fewer GPUs than processes.
    """
    for flag, value in (('--processes', processes), ('--devices', devices)):
        if value is not None and value < 1:
            raise UserError(f'{flag}: {value} is below 1')
    if devices is None and not gpus:
        raise UserError('--devices: this machine shows no GPU; say how many virtual CPU devices each process has')
    count = processes or (gpus if devices is None else 2)
    if devices is None and count > gpus:
        raise UserError(f'--processes: {count}, one a GPU, but there are {gpus} GPUs')
    shared = {COORDINATOR: f'localhost:{port}', PROCESSES: str(count)}
    flags = environ.get('XLA_FLAGS', '').split()
    if devices is not None:
        flags = [flag for flag in flags if 'force_host_platform_device_count' not in flag]
        flags.append(f'--xla_force_host_platform_device_count={devices}')
        shared |= {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ' '.join(flags)}
    visible = environ.get('CUDA_VISIBLE_DEVICES', ','.join(str(i) for i in range(gpus))).split(',')
    own = [{PROCESS: str(i)} | ({'CUDA_VISIBLE_DEVICES': visible[i]} if devices is None else {}) for i in range(count)]
    return [{**environ, **shared, **mine} for mine in own]


def count_gpus(environ: Mapping[str, str] = os.environ) -> int:
    """NVIDIA GPUs that a process started here would see."""
    visible = environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return len([name for name in visible.split(',') if name.strip()])
    if not shutil.which('nvidia-smi'):
        return 0
    listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, check=False)
    return sum(line.startswith('GPU ') for line in listed.stdout.splitlines())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        return probe.getsockname()[1]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    own = list(itertools.takewhile(lambda x: x != '--', argv))
    parser = _Parser(prog='scripts/launch/local', description=(__doc__ or '').partition(': ')[2])
    parser.add_argument('--processes', type=int, metavar='N', help='default: one a GPU; with --devices, 2')
    parser.add_argument('--devices', type=int, metavar='K', help='virtual CPU devices of each process; without: GPUs')
    parser.add_argument('--restarts', type=int, default=0, metavar='N', help='start again where one dies, so often')
    parser.add_argument('--dry-run', action='store_true', help='only show what would be started')
    parser.epilog = 'after `--`: the verb of mmjax and its arguments'
    try:
        given = parser.parse_args(own)
        rest = argv[len(own) + 1 :]
        if not rest:
            raise UserError('nothing to run; give the verb after --, such as: -- train configs/easy_vqa.py')
        make = functools.partial(environments, processes=given.processes, devices=given.devices, gpus=count_gpus())
        group = make(port=free_port())
        if given.restarts < 0:
            raise UserError(f'--restarts: {given.restarts} is below 0')
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    command = [sys.executable, '-m', 'mmjax.cli', *rest]
    if given.dry_run:
        for environment in group:
            changed = {k: v for k, v in environment.items() if os.environ.get(k) != v}
            print(' '.join([*(f'{name}={value!r}' for name, value in sorted(changed.items())), *command]))
        return 0
    return kept_up(lambda: launch(command, make(port=free_port())), restarts=given.restarts)


if __name__ == '__main__':
    sys.exit(main())
