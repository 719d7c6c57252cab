"""One process trains in a run directory at a time."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax.distributed.group import number_of
from mmjax.errors import UserError
from mmjax.storage import AnyPath, create, is_url, write_bytes

BEAT = 15.0  # seconds between the signs of life of an owner
LAPSES = 60.0  # seconds without one after which it counts as dead


@contextlib.contextmanager
def locked(run: AnyPath) -> Iterator[None]:
    """Holds a run directory until the block ends.

    On a disk this is a lock of the kernel, which frees it when the process dies, however it does. An object store has
    none: there the object `lock` says whose the run is. It is made on the condition that there is none, and its owner
    renews it every `BEAT` seconds. Who finds one waits: where it changes, its owner is alive; where it does not for
    `LAPSES` seconds, or its owner was a process of this machine, since its last start, that is gone, it is taken over.
    An owner who finds the lock another's, having been cut off for so long, stops as if interrupted. Clocks are not
    compared.

    Raises:
        UserError: where another process holds it.
    """
    with _object(run) if is_url(run) else _kernel(run):
        yield


def owner_of(run: AnyPath) -> str | None:
    """Who of a group holds a run directory, or held it last: another word each time. None: nobody, as is seen here."""
    return (_read(run / 'lock') or {}).get('owner')


@contextlib.contextmanager
def _kernel(run: AnyPath) -> Iterator[None]:
    import fcntl

    try:
        lock = (run / 'lock').open('a')
    except OSError as error:
        raise UserError(f'--workdir {run}: {error.strerror}') from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(run) from error
        if number_of()[1] > 1:  # the others of the group look whether they see it
            lock.truncate(0)
            lock.write(_written(_owner()).decode())
            lock.flush()
            os.fsync(lock.fileno())  # for other machines: the file stays open
        yield


@contextlib.contextmanager
def _object(run: AnyPath) -> Iterator[None]:
    mine = {**_owner(), 'beat': 0}
    path, ended, lost = run / 'lock', threading.Event(), threading.Event()
    while not create(path, _written(mine)):
        _wait_until_dead(run, path)
    beating = threading.Thread(target=_beat, args=(path, mine, ended, lost), daemon=True)
    beating.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise UserError(f'{run}: was taken over by another process while this one was cut off from it') from None
        raise
    finally:
        ended.set()
        beating.join()
        if not lost.is_set():
            path.unlink(missing_ok=True)


def _wait_until_dead(run: AnyPath, path: AnyPath) -> None:
    """Removes a lock whose owner is dead. Raises UserError where it lives."""
    found = _read(path)
    if found is None:
        return
    here = all(found.get(name) == value for name, value in _machine().items())
    if not here or _alive(found.get('process')):
        print(f'{run}: is locked by {found.get("host")}; waiting for a sign of life', file=sys.stderr, flush=True)
        began = time.monotonic()
        while time.monotonic() - began < LAPSES:
            time.sleep(min(1.0, BEAT / 4))
            now = _read(path)
            if now is None:
                return
            if now != found:
                raise _taken(run)
    if _read(path) == found:
        path.unlink(missing_ok=True)


def _beat(path: AnyPath, mine: dict[str, Any], ended: threading.Event, lost: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            found = _read(path)
            if found is not None and found.get('owner') == mine['owner']:
                mine = mine | {'beat': mine['beat'] + 1}
                write_bytes(path, _written(mine))
                continue
        except Exception as error:  # of the network, of which each store has its own: the next beat may get through
            print(f'{path}: cannot be renewed now ({error})', file=sys.stderr, flush=True)
            continue
        lost.set()
        if (
            signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):  # as of what a shell runs in the background
            print(f'{path}: is not ours any more', file=sys.stderr, flush=True)
            os._exit(1)
        os.kill(os.getpid(), signal.SIGINT)
        return


def _read(path: AnyPath) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _owner() -> dict[str, Any]:
    return {'owner': uuid.uuid4().hex, **_machine(), 'process': os.getpid()}


def _machine() -> dict[str, Any]:
    """This one, since it was started: many have the same name, as containers and images do."""
    boot = Path('/proc/sys/kernel/random/boot_id')  # Linux has it
    return {'host': socket.gethostname(), 'boot': boot.read_text().strip() if boot.exists() else None}


def _written(lock: dict[str, Any]) -> bytes:
    return json.dumps(lock).encode()


def _alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError):
        return True
    return True


def _taken(run: AnyPath) -> UserError:
    return UserError(f'{run}: another process trains in it; wait for it, or choose another --workdir')
