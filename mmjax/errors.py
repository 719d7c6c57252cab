"""The one exception that means "the user can mend this", and the hint that goes with it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The command line prints the message in a line or two and exits with code 2, without a traceback.

    The message names the field or file, the value, and what would do instead.
    """


def nearest(word: str, words: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the word of `words` closest to `word`, or '' if none is close."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ''
