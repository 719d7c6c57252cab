"""The command line: `mmjax VERB …`. Parses, calls, prints, exits; only the verbs import what needs JAX."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from mmjax.cli.plan import Plan
from mmjax.cli.reproduce import Reproduce
from mmjax.cli.restarts import kept_up_alone
from mmjax.cli.train import Eval, Train
from mmjax.cli.verb import Run, Trusting, Verb, checked, refuse
from mmjax.config.parsing import named_values, parse
from mmjax.errors import FULL, Preempted, UserError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Trusting):
    """Print the likeliest answers of a run's model for one input, with their probabilities, or the text that it writes.

    --MODALITY VALUE gives the input of an encoder of the model: --image FILE --text 'is it red?' (of a text that
    the model writes, its prompt). A modality may be left out; the model then does without it.
    """

    directory: Run
    top: Annotated[int, tyro.conf.arg(metavar='K', help='how many answers')] = 3
    threshold: Annotated[
        float, tyro.conf.arg(metavar='P', help='probability below which the first answer does not count')
    ] = 0.0

    def run(self, rest: list[str]) -> dict[str, Any]:
        inputs = named_values(rest)
        run = checked(self.directory)
        from mmjax.train.predict import predict

        return predict(run, inputs, top=self.top, threshold=self.threshold, trust=self.trust)

    def show(self, result: dict[str, Any]) -> None:
        for name, value in result.items():
            if isinstance(value, dict):
                print(f'{name}: {value["text"]}')
            elif isinstance(value, list):
                print(f'{name}:', *(f'  {x["probability"]:6.1%}  {x["label"]}' for x in value), sep='\n')
        if not result.get('above_threshold', True):
            print(f'no answer reaches the threshold of {self.threshold:g}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff(Verb):
    """Print what differs between two runs: config, code, data, environment, results, and from which step on."""

    a: Run
    b: Run

    def run(self, rest: list[str]) -> dict[str, Any]:
        refuse(rest, flags=('--json',))
        from mmjax.train.compare import compare

        return compare(checked(self.a), checked(self.b))

    def show(self, result: dict[str, Any]) -> None:
        section = None
        for name, (a, b) in result.items():
            head, _, rest = name.partition('/')
            if head != section:
                section = head
                print(f'{head}:')
            print(f'  {rest}: {a} -> {b}')
        if not result:
            print('no difference')


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyVerb(Verb):
    """Run what is missing of a study, then write its report.

    Every design at matched size, tuned alike, over fresh paired seeds. Kill it at any time and run it again; several
    processes may work on one study.
    """

    study: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar='STUDY', help='Python file with def study() -> Study'),
    ]
    workdir: Annotated[
        str | None,
        tyro.conf.arg(metavar='DIR', help='where its ledger lies', help_behavior_hint='(default: runs/studies/STUDY)'),
    ] = None
    dry_run: Annotated[bool, tyro.conf.arg(help='only tell what there is to do')] = False
    quick: Annotated[bool, tyro.conf.arg(help='a small form of it, that ends in minutes and shows nothing')] = False
    together: Annotated[
        int,
        tyro.conf.arg(metavar='N', help='runs of an arm that train side by side; faster on accelerators'),
    ] = 1

    def run(self, rest: list[str]) -> dict[str, Any]:
        refuse(rest, flags=('--json', '--workdir', '--dry-run', '--quick', '--together'))
        if self.together < 1:
            raise UserError(f'--together: {self.together} is below 1')
        from mmjax.config import load_file
        from mmjax.study.command import study_command
        from mmjax.study.study import Study, quick

        study = load_file(self.study, kind=Study, function='study')
        study = quick(study) if self.quick else study
        directory = self.workdir or str(Path('runs', 'studies', study.name))
        return study_command(study, Path(directory), dry_run=self.dry_run, together=self.together)


VERBS: dict[str, type[Verb]] = {
    'train': Train,
    'eval': Eval,
    'predict': Predict,
    'study': StudyVerb,
    'plan': Plan,
    'diff': Diff,
    'reproduce': Reproduce,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code: 0 done, 1 not identical (`reproduce`), 2 the user's mistake (on stderr),
    130 interrupted, 143 told to end.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for `model.fusion=my_package.my_module:MyFusion`, and the classes of configs/
    try:
        return _main(argv)
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resume = '; the same command goes on from the last checkpoint' if argv[0] in ('train', 'study') else ''
        print(f'\nmmjax: interrupted{resume}', file=sys.stderr)
        return 130
    except Preempted:
        print(Preempted.TOLD, file=sys.stderr)
        return Preempted.CODE
    except BrokenPipeError:
        if not {'-h', '--help'} & set(argv):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `mmjax … --help | head` has read enough
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f'{error.filename}: ' if error.filename else ''
        resume = '; it goes on from the last checkpoint' if argv[0] in ('train', 'study') else ''
        print(f'mmjax: error: {where}{error.strerror}; make room, and give the same command{resume}', file=sys.stderr)
        return 2


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ('-h', '--help'):
        print(_usage())
        return 0
    name, *args = argv
    if name not in VERBS:
        raise UserError(f'no verb {name!r}{nearest(name, VERBS) or "; there are " + ", ".join(VERBS)}')
    verb, rest = _parse(name, args)
    asks = bool({'-h', '--help'} & set(rest))
    if verb.restarts_left and not asks:
        return kept_up_alone(argv, restarts=verb.restarts_left)
    if asks or (joins := verb.joins) is None:
        return _run(verb, rest)
    from mmjax.distributed.group import group

    with group(flags=joins) as first:
        return _run(verb, rest, tells=first)


def _run(verb: Verb, rest: list[str], *, tells: bool = True) -> int:
    """Returns the exit code. tells: whether this is the process that prints and writes the result."""
    to_stdout = verb.json == '-'
    if verb.json and not to_stdout and tells:
        from mmjax.train.files import check_writable

        check_writable(Path(verb.json), flag='--json')
    with contextlib.redirect_stdout(sys.stderr) if to_stdout else contextlib.nullcontext():
        result = verb.run(rest)
    if not tells:
        return verb.code(result)
    written = json.dumps(result, indent=1)
    if to_stdout:
        print(written)
        return verb.code(result)
    verb.show(result)
    if verb.json:
        Path(verb.json).write_text(written + '\n')
    return verb.code(result)


def _parse(name: str, args: list[str]) -> tuple[Verb, list[str]]:
    """Returns the verb with its own options, and the arguments that are left: changes to a config, or inputs."""
    cls = VERBS[name]
    # With a config named, its fields are what --help is about.
    names_config = cls.takes_overrides and bool(args) and not args[0].startswith('-')
    later = [arg for arg in args if arg in ('-h', '--help')] if names_config else []
    own = [arg for arg in args if arg not in later]
    verb, rest = parse(cls, own, prog=f'mmjax {name}')
    return verb, rest + later[:1]


def _usage() -> str:
    """What `mmjax --help` prints."""
    lines = [f'  {name:11}{(cls.__doc__ or "").splitlines()[0]}' for name, cls in VERBS.items()]
    return '\n'.join(['usage: mmjax VERB …', '', *lines, '', '`mmjax VERB --help` tells what a verb takes.'])
