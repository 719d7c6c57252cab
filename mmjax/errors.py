"""The exceptions that are no bugs: "the user can mend this", with hints and the commonest check; and "told to end"."""

import difflib
import errno
import functools
from collections.abc import Collection, Iterable
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk says that has no room."""


class UserError(Exception):
    """Bad input. The command line prints the message in a line or two and exits with code 2, without a traceback.

    The message names the field or file, the value, and what would do instead.
    """


class BadExample(UserError):
    """An example is not as it should be, whatever the config says: training does without it, see
    `Experiment.bad_records`.

    reason: a few words, the same for all of its kind, by which such examples are counted.
    """

    def __init__(self, told: str, *, reason: str):
        super().__init__(told)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(BadExample, reason=self.reason), (str(self),)  # it comes from the loader's processes


class Preempted(BaseException):
    """The process was told to end (SIGTERM), and what it had done is saved. The command line exits with `CODE`. Not an
    Exception: what tries again on those must not catch it.
    """

    CODE = 143
    TOLD = 'mmjax: ended as it was told to; the same command goes on from where it stood'


def nearest(word: str, words: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the word of `words` closest to `word`, or '' if none is close."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ''


def check_output(name: str, outputs: Collection[str], *, asker: str) -> None:
    """Raises UserError, in the name of `asker`, where the model has no such output."""
    _check(name, outputs, what='output of the model', asker=asker)


def check_field(name: str, batch: Collection[str], *, asker: str, hint: str = '') -> None:
    """Raises UserError, in the name of `asker`, where the batch has no such field. hint: what would give it one."""
    _check(name, batch, what='field of the batch', asker=asker, hint=hint)


def _check(name: str, there: Collection[str], *, what: str, asker: str, hint: str = '') -> None:
    if name not in there:
        end = f'; {hint}' if hint else ''
        raise UserError(f"{asker}: no {what} '{name}'{nearest(name, there)} (there are {sorted(there)}){end}")
