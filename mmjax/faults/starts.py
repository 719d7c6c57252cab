"""Starts of the command line in processes of their own, which have imported everything already: a bar has hundreds."""

import dataclasses
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CACHE = {  # a start compiles only what no start before it has
    'jax_persistent_cache_min_compile_time_secs': 0.05,
    'jax_persistent_cache_min_entry_size_bytes': 0,
}
LOOK = 0.005  # seconds between looks
NEVER = 300.0  # seconds after which what was awaited counts as never coming


def cached(directory: Path) -> dict[str, str]:
    """The environment of a process that is not one of `Starter`, and compiles only what none before it has."""
    return {name.upper(): str(value) for name, value in _cache(directory).items()}


def _cache(directory: Path) -> Mapping[str, object]:
    return CACHE | {'jax_compilation_cache_dir': str(directory / 'cache')}


@dataclasses.dataclass(frozen=True)
class Ended:
    """code: the exit code, negative where a signal ended it. said: its stderr. seconds: how long it ran."""

    code: int
    said: str
    seconds: float


class Start:
    """A process that runs `mmjax VERB …`."""

    def __init__(self, process: multiprocessing.context.ForkServerProcess, said: Path):
        self._process, self._said, self._began = process, said, time.monotonic()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process.is_alive()

    def send(self, number: int) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def until(self, there: Callable[[], bool]) -> bool:
        """Waits until something is so; False where the process ended first."""
        until = time.monotonic() + NEVER
        while not there():
            if not self.alive():
                return there()
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                return False
            time.sleep(LOOK)
        return True

    def ended(self, *, within: float = NEVER) -> Ended | None:
        """Waits for the end; None, and a kill, where it does not come."""
        self._process.join(within)
        if self.alive():
            self.send(signal.SIGKILL)
            self._process.join()
            return None
        assert self._process.exitcode is not None
        return Ended(self._process.exitcode, self.said, time.monotonic() - self._began)

    @property
    def said(self) -> str:
        return self._said.read_text(errors='replace') if self._said.exists() else ''


class Starter:
    """Makes starts. directory: of what they say, and of compiled programs."""

    def __init__(self, directory: Path):
        self._directory, self._count = directory, 0
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(['mmjax.train.command', 'mmjax.faults.victim', 'mmjax.cli'])

    def start(self, *argv: object, environ: Mapping[str, str] | None = None) -> Start:
        """environ: what is set beside the environment of this process."""
        self._count += 1
        said = self._directory / f'said-{self._count}'
        arguments = [str(argument) for argument in argv]
        cache = _cache(self._directory)
        process = self._context.Process(target=_main, args=[arguments, str(said), dict(environ or {}), cache])
        process.start()
        return Start(process, said)


def _main(argv: Sequence[str], said: str, environ: Mapping[str, str], cache: Mapping[str, object]) -> None:
    file = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = os.fdopen(1, 'w', buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, 'w', buffering=1, closefd=False)
    os.environ.update(environ)
    import jax

    for name, value in cache.items():
        jax.config.update(name, value)
    from mmjax.cli import main

    sys.exit(main(argv))
