"""What all bars share: their command line, their result, and the small run that they harm."""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mmjax.errors import UserError
from mmjax.experiment import Checkpoint, Experiment
from mmjax.faults.victim import experiment
from mmjax.train.files import check_writable, write_json
from mmjax.train.manifest import code_version


class Trial(NamedTuple):
    """What was done, and what went wrong: '' where the run survived it."""

    fault: str
    wrong: str


def victim(*, steps: int, every: int, keep: int) -> Experiment:
    """The run of `victim.py` without what it is scored by, of another length."""
    made = experiment()
    return dataclasses.replace(
        made,
        steps=steps,
        objectives={'answer': made.objectives['answer']},
        evals={},
        checkpoint=Checkpoint(every=every, keep=keep),
    )


def progress(number: int, trials: int) -> None:
    """Tells on a terminal that one more is done."""
    if sys.stderr.isatty():
        print(f'\r{number + 1} of {trials}', end='', file=sys.stderr, flush=True)


def result(trials: Sequence[Trial], *, seed: int) -> dict[str, Any]:
    """`trials`, `survived`, both of each kind of fault too, and what it was run with."""
    made, lived = Counter(), Counter()
    for trial in trials:
        made[trial.fault] += 1
        lived[trial.fault] += not trial.wrong
    return {
        'trials': len(trials),
        'survived': sum(lived.values()),
        **{f'{fault}/trials': made[fault] for fault in sorted(made)},
        **{f'{fault}/survived': lived[fault] for fault in sorted(made)},
        'seed': seed,
        'jax': jax.__version__,
        'commit': code_version()['commit'],
    }


def main(name: str, about: str, run: Callable[..., Sequence[Trial]], *, trials: int, argv: Sequence[str] | None) -> int:
    """Returns the exit code: 0 where every trial was survived, 1 where one was not, 2 on a wrong command.

    run: takes `trials` and `seed`.
    """
    parser = argparse.ArgumentParser(prog=f'scripts/faults/{name}', description=about)
    parser.add_argument('--trials', metavar='N', type=int, default=trials, help=f'default: {trials}')
    parser.add_argument('--seed', metavar='S', type=int, default=0, help='of what is drawn; default: 0')
    parser.add_argument('--json', metavar='FILE', type=Path, help='also write the result there')
    given = parser.parse_args(argv)
    try:
        if given.trials < 1:
            raise UserError(f'--trials {given.trials}: at least 1')
        if given.json:
            check_writable(given.json, flag='--json')
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    done = run(trials=given.trials, seed=given.seed)
    told = result(done, seed=given.seed)
    for trial in done:
        if trial.wrong:
            print(f'{trial.fault}: {trial.wrong}')
    for fault in sorted({trial.fault for trial in done}):
        print(f'{fault:24} {told[f"{fault}/survived"]:4} of {told[f"{fault}/trials"]} survived')
    print(f'{name:24} {told["survived"]:4} of {told["trials"]} survived')
    if given.json:
        write_json(given.json, told)
    return int(told['survived'] != told['trials'])
