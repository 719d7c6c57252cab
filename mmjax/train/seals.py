"""Seals: what the files of a checkpoint held when it was written, beside it, so that damage is found before it is read.

`RUN/seals/STEP/I-of-N.json`, by each of N processes its part: the path of a file below the checkpoint -> its SHA-256.
The libraries that write checkpoints protect their structure, not the bytes of the arrays: a flipped bit comes back as
another number.
"""

import hashlib
import json
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from mmjax.distributed.group import gathered, is_first
from mmjax.failpoints import failpoint
from mmjax.storage import AnyPath, files_below, is_url
from mmjax.train.files import write_json

SEALS = 'seals'  # a directory beside the checkpoints
AT_ONCE = 8  # files that are read at a time
CHUNK = 1 << 24
LOOK = 0.05  # seconds between looks at whether a checkpoint is whole


class Sealer:
    """Seals the checkpoints of a directory as they become whole, in the background, each process a part of them."""

    def __init__(self, directory: AnyPath):
        self._directory, self._seals = directory, directory.parent / SEALS
        self._pool, self._over, self._last = ThreadPoolExecutor(1), threading.Event(), Future()
        self._last.set_result(None)
        self._sealed = 0

    @property
    def steps(self) -> list[int]:
        """Those that have a seal, in order."""
        found = {name.partition('/')[0] for name in files_below(self._seals)}
        return sorted(int(name) for name in found if name.isdigit())

    def expect(self, step: int) -> None:
        """Before a step is written: what is there under its name says nothing of it."""
        if is_first():
            unseal(self._seals, step)

    def begin(self, step: int) -> None:
        """Once it is being written, and the one before has been."""
        self._over.set()
        self._over = threading.Event()
        self._last = self._pool.submit(self._seal, step, self._over)

    def wait(self) -> None:
        """Once all have been written: returns when they are sealed."""
        self._over.set()
        self._last.result()
        self._sweep()  # Orbax may have removed one after the newest was sealed

    def close(self) -> None:
        self.wait()
        self._pool.shutdown()

    def _sweep(self) -> None:
        """Removes the seals of checkpoints that made room for one that this sealed."""
        if is_first() and self._sealed:
            there = {path.name for path in self._directory.iterdir()}
            for old in self.steps:
                if old < self._sealed and str(old) not in there:
                    unseal(self._seals, old)

    def broken(self, step: int) -> list[str]:
        """What is wrong with the files of a step. In a group all processes come here, and all get the same."""
        me, all_of_us = jax.process_index(), jax.process_count()
        found = gathered(broken(self._directory / str(step), self._seals, part=me, parts=all_of_us))
        return sorted({what for part in found for what in part})

    def is_sound(self, step: int) -> bool:
        """Whether a step has a seal and all its files are as they were, as this process sees it."""
        return step in self.steps and not broken(self._directory / str(step), self._seals)

    def _seal(self, step: int, over: threading.Event) -> None:
        directory = self._directory / str(step)
        while not (whole := is_whole(directory)) and not over.wait(LOOK):
            pass
        if not whole and not is_whole(directory):  # its saving has failed; Orbax tells
            return
        try:
            failpoint('checkpoint/sealing')
            seal(directory, self._seals, part=jax.process_index(), parts=jax.process_count())
            failpoint('checkpoint/sealed')
            self._sealed = step
            self._sweep()
        except OSError as error:
            print(
                f'mmjax: checkpoint {step} is not sealed ({error}): damage to it would show in its arrays alone',
                file=sys.stderr,
                flush=True,
            )


def is_whole(step: AnyPath) -> bool:
    """Whether a checkpoint has been committed: on a disk by a rename, in a store by an object that is written last."""
    return (step / 'commit_success.txt').exists() if is_url(step) else step.is_dir()


def seal(step: AnyPath, seals: AnyPath, *, part: int = 0, parts: int = 1) -> None:
    """Writes the part of one process. step: the directory of a whole checkpoint."""
    files = files_below(step)[part::parts]
    (seals / step.name).mkdir(parents=True, exist_ok=True)
    write_json(seals / step.name / f'{part}-of-{parts}.json', dict(zip(files, _digests(step, files), strict=True)))


def broken(step: AnyPath, seals: AnyPath, *, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with the files of a checkpoint, as far as this process looks: each looks at its part of them.

    Empty too where there is no whole seal: the run was killed between the checkpoint and its seal.
    """
    sealed = _read(seals / step.name)
    if sealed is None:
        return []
    there = files_below(step)
    wrong = [f'{name} is missing' for name in sealed.keys() - set(there)]
    wrong += [f'{name} is not its own' for name in set(there) - sealed.keys()]
    files = sorted(sealed.keys() & set(there))[part::parts]
    return wrong + [
        f'{name} has changed' for name, found in zip(files, _digests(step, files), strict=True) if found != sealed[name]
    ]


def unseal(seals: AnyPath, step: int) -> None:
    """Removes the seal of a step, which may have none."""
    directory = seals / str(step)
    for name in files_below(directory):
        (directory / name).unlink(missing_ok=True)
    if directory.is_dir():  # a store has no empty directory
        directory.rmdir()


def _read(directory: AnyPath) -> dict[str, str] | None:
    """The digests of all parts; None where one is missing or cannot be read."""
    parts, names = {}, files_below(directory)
    for name in names:
        try:
            parts[name] = json.loads((directory / name).read_text())
        except (OSError, ValueError):
            return None
    whole = names and set(names) == {f'{i}-of-{len(names)}.json' for i in range(len(names))}
    return {file: digest for part in parts.values() for file, digest in part.items()} if whole else None


def _digests(step: AnyPath, files: list[str]) -> list[str]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda name: _digest(step / name), files))


def _digest(file: AnyPath) -> str:
    digest = hashlib.sha256()
    with file.open('rb') as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
