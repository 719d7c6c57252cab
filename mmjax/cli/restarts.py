"""`mmjax train --restarts N`: the same command in a process of its own, again where that dies."""

import os
import sys
from collections.abc import Sequence

FLAG = '--restarts'


def kept_up_alone(argv: Sequence[str], *, restarts: int) -> int:
    """Returns the exit code of the last. argv: of this process, the flag included."""
    from mmjax.distributed.local import kept_up, launch

    command = [sys.executable, '-m', 'mmjax.cli', *_without_flag(argv)]
    return kept_up(lambda: launch(command, [os.environ]), restarts=restarts)


def _without_flag(argv: Sequence[str]) -> list[str]:
    own = [i for i, argument in enumerate(argv) if argument.partition('=')[0] == FLAG]
    own += [i + 1 for i in own if '=' not in argv[i]]
    return [argument for i, argument in enumerate(argv) if i not in own]
