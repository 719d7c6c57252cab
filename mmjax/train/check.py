"""`scripts/check NAME…`: trains a recipe over its seeds and holds the scores against what is expected of it."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from mmjax.config.files import name_of
from mmjax.errors import UserError, nearest
from mmjax.train.expected import ROOT, Expected, Recipe, check_seeds, names, read, recipe_of, write
from mmjax.train.files import check_writable
from mmjax.train.manifest import code_version, other_code

RUNS = Path('runs', 'check')  # below the working directory, as all runs are


class Measured(NamedTuple):
    """A recipe's score. minutes: how long it took; None where some of it was there before."""

    score: float
    minutes: float | None


def measure(name: str, *, seeds: Sequence[int] = (), root: Path = ROOT) -> dict[int, Measured]:
    """By seed (default: those of the file), from finished runs where there are any, else by training, for which a
    vocabulary that is not there is learned first. Prints a line for each.
    """
    from mmjax.train.run import train
    from mmjax.train.score import evaluate
    from mmjax.train.stages import train_stages
    from mmjax.train.vocabulary import learn

    expected = read(name, root=root)
    seeds = seeds or expected.seeds
    recipes = {seed: recipe_of(expected, seed=seed, root=root) for seed in seeds}  # all, before any is trained
    what = f'{expected.metric} over {expected.over}' if expected.over else expected.metric
    print(f'{name}: {what} of {" ".join([expected.config, *expected.overrides])}')
    measured = {}
    for seed, recipe in recipes.items():
        run, file = _run(name, expected, seed), str(root / expected.config)
        started, begun = time.monotonic(), run.exists()
        finished = all((path / 'results.json').exists() for path in _directories(run, recipe))
        learn(list(recipe.values()) if isinstance(recipe, dict) else [recipe], missing=True)
        if isinstance(recipe, dict):
            results = train_stages(recipe, workdir=str(run), config_file=file)
        else:
            results = train(recipe, workdir=str(run), config_file=file)
        if expected.by:
            results = evaluate(str(run), by=str(root / expected.by))
        for metric in filter(None, (expected.metric, expected.over)):
            if metric not in results:
                raise UserError(f'{run}: its results have no {metric}{nearest(metric, results)}')
        score = float(results[expected.metric]) - (float(results[expected.over]) if expected.over else 0.0)
        minutes = None if begun else round((time.monotonic() - started) / 60, 1)
        measured[seed] = Measured(score, minutes)
        how = ', which was there' if finished else '' if begun else f', in {minutes} minutes'
        print(f'  seed {seed:<20} {score:.4f}  {run}{how}', flush=True)
    return measured


def _run(name: str, expected: Expected, seed: int) -> Path:
    """Where it is trained: what only scores a recipe otherwise shares the run of the recipe."""
    return RUNS / f'{name_of(expected.config) if expected.by else name}-{seed}'


def _directories(run: Path, recipe: Recipe) -> list[Path]:
    """Those of the runs that a recipe makes."""
    return [run / stage for stage in recipe] if isinstance(recipe, dict) else [run]


def show(expected: Expected, scores: Mapping[int, float]) -> bool:
    """Prints the mean beside the floor and the verdict; returns whether every bound holds."""
    print(f'  {"mean":25} {sum(scores.values()) / len(scores):.4f}')
    for what, value in sorted(expected.floor.items(), key=lambda item: -item[1]):
        print(f'    without it: {what:11}   {value:.4f}')
    bounds = {'mean at least': expected.threshold, 'each at least': expected.each, 'each at most': expected.at_most}
    asked = ', '.join(f'{bound} {value}' for bound, value in bounds.items() if value is not None)
    missed = expected.failures(scores)
    print(f'  {"FAIL" if missed else "PASS"} ({asked}){": " if missed else ""}{"; ".join(missed)}')
    return not missed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _arguments(argv: Sequence[str], *, root: Path) -> argparse.Namespace:
    parser = _Parser(prog='scripts/check', description=(__doc__ or '').partition(': ')[2])
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'one of: {", ".join(names(root))}')
    parser.add_argument('--all', action='store_true', help='all of them but those that need what is not everywhere')
    parser.add_argument('--seeds', nargs='+', type=int, default=[], metavar='N', help='instead of those of the file')
    parser.add_argument('--write', action='store_true', help='store scores and minutes in configs/expected/NAME.json')
    parser.add_argument('--json', metavar='FILE', help='also write the scores and verdicts as flat JSON')
    flags = [flag for action in parser._actions for flag in action.option_strings]
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UserError(f'unknown argument {unknown[0]!r}{nearest(unknown[0], flags)}')
    if any(seed < 0 for seed in given.seeds):
        raise UserError(f'--seeds {min(given.seeds)}: a seed is 0 or more')
    given.names = list(dict.fromkeys([*given.names, *(_everywhere(root) if given.all else ())]))
    if not given.names:
        raise UserError(f'name a recipe ({", ".join(names(root)) or "there is none yet"}), or --all')
    return given


def _everywhere(root: Path) -> list[str]:
    """The recipes that need nothing special; says which others there are."""
    needs = {name: read(name, root=root).needs for name in names(root)}
    for name, what in needs.items():
        if what:
            print(f'{name}: left out, it needs {what}; scripts/check {name} runs it')
    return [name for name, what in needs.items() if not what]


def _check_code(name: str, expected: Expected, seeds: Sequence[int], *, root: Path) -> None:
    """Raises UserError where a score would be recorded that the committed code did not give."""
    code = code_version()
    if code['commit'] is None:
        raise UserError('--write: this is no checkout, so a score could not be said to be of a commit')
    if code['dirty']:
        raise UserError('--write: there are changes to the code that are not committed; commit them, then measure')
    recipes = {seed: recipe_of(expected, seed=seed, root=root) for seed in seeds}
    for run in (path for seed in seeds for path in _directories(_run(name, expected, seed), recipes[seed])):
        if (run / 'manifest.json').exists() and (code := other_code(run)):
            raise UserError(f'--write: {run} was trained by other code, of commit {code}; remove it to measure anew')


def check(argv: Sequence[str], *, root: Path = ROOT) -> bool:
    """Runs `scripts/check` with these arguments; returns whether every recipe passed. Raises UserError on bad input."""
    given = _arguments(argv, root=root)
    # Whatever can be wrong is found before anything is trained.
    expectations = {name: read(name, root=root) for name in given.names}
    for name, expected in expectations.items() if given.write else ():
        check_seeds(name, expected, given.seeds)
        _check_code(name, expected, given.seeds or expected.seeds, root=root)
    if given.json:
        check_writable(Path(given.json), flag='--json')
    flat: dict[str, float | bool] = {}
    for name, expected in expectations.items():
        measured = measure(name, seeds=given.seeds, root=root)
        scores = {seed: found.score for seed, found in measured.items()}
        flat |= {f'{name}/{seed}': score for seed, score in scores.items()}
        flat |= {f'{name}/mean': sum(scores.values()) / len(scores), f'{name}/passed': show(expected, scores)}
        if given.write:
            minutes = {seed: found.minutes for seed, found in measured.items() if found.minutes is not None}
            write(name, scores, minutes=minutes, root=root)
    if given.json:
        Path(given.json).write_text(json.dumps(flat, indent=1) + '\n')
    return all(value for key, value in flat.items() if key.endswith('/passed'))


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Returns the exit code: 0 all pass, 1 one does not, 2 the user's mistake."""
    try:
        return 0 if check(sys.argv[1:] if argv is None else argv, root=root) else 1
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
