"""What each recipe is expected to reach: configs/expected/NAME.json.

    {"config": "configs/easy_vqa.py", "overrides": [], "metric": "test/accuracy", "floor": {"question only": 0.67},
     "threshold": 0.99, "each": 0.985, "seeds": [0, 1, 2], "results": {"0": 0.993, …}, "minutes": {"0": 9.5, …},
     "command": "scripts/check easy_vqa"}

`scripts/check NAME` measures it (check.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax import config
from mmjax.errors import UserError, nearest
from mmjax.experiment import Evaluation, Experiment
from mmjax.train.files import read_json, write_json

Recipe = Experiment | dict[str, Experiment]
"""What a config file returns: an experiment, or its stages by their names."""

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Expected:
    """A recipe, its score over seeds, and the bounds for it. Either `threshold` or `at_most` is given.

    config: FILE[:FUNCTION], counted from the repository. overrides: as on the command line. metric: a key of
    results.json. over: another key, whose score is taken from that one: the score is a gain. by: FILE[:FUNCTION] whose
    evaluations, not those of the recipe, give the metric; its run is that of the expectation of the config's name.
    command: what measures it. needs: what it takes beyond this repository and two cores; '' where that is nothing.
    seeds: what it is measured with. floor: what is reached without the skill, by name.
    threshold: lowest allowed mean over the seeds. each: lowest allowed score of any seed. at_most: highest allowed
    score of any seed, for a control that must not have the skill. results: what was measured last, by seed; None where
    nothing was yet. minutes: how long that took, set-up and scoring included, where it was done in one go.
    """

    config: str
    metric: str
    command: str
    over: str = ''
    by: str = ''
    needs: str = ''
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    floor: Mapping[str, float] = dataclasses.field(default_factory=dict)
    threshold: float | None = None
    each: float | None = None
    at_most: float | None = None
    results: Mapping[str, float] | None = None
    minutes: Mapping[str, float] | None = None

    def failures(self, scores: Mapping[int, float]) -> list[str]:
        """Returns, in words, each bound that scores by seed miss. A score that is NaN misses every bound."""
        mean, missed = sum(scores.values()) / len(scores), []
        if self.threshold is not None and not mean >= self.threshold:
            missed.append(f'the mean {mean:.4f} is below {self.threshold}')
        for seed, score in scores.items():
            if self.each is not None and not score >= self.each:
                missed.append(f'seed {seed}: {score:.4f} is below {self.each}')
            if self.at_most is not None and not score <= self.at_most:
                missed.append(f'seed {seed}: {score:.4f} is above {self.at_most}')
        return missed


def names(root: Path = ROOT) -> list[str]:
    """The recipes that have an expectation."""
    return sorted(path.stem for path in root.glob('configs/expected/*.json'))


def read(name: str, *, root: Path = ROOT) -> Expected:
    """Returns the expectation called `name`. Raises UserError where there is none or its file makes no sense."""
    if name not in names(root):
        known = ', '.join(names(root)) or 'none yet'
        raise UserError(f'{name}: has no configs/expected/{name}.json{nearest(name, names(root))} (there are: {known})')
    path = _path(name, root)
    given = read_json(path)
    fields = {field.name: field for field in dataclasses.fields(Expected)}
    for field in given:
        if field not in fields:
            raise UserError(f'{path}: no field {field!r}{nearest(field, fields)} (there are {", ".join(fields)})')
    for field in ('config', 'metric', 'command'):
        if field not in given:
            raise UserError(f'{path}: {field} is missing')
    for field, value in given.items():
        if not _fits(field, value):
            raise UserError(f'{path}: {field} is {value!r}; it takes {TAKES[field]}')
    values: dict[str, Any] = {field: tuple(v) if isinstance(v, list) else v for field, v in given.items()}
    expected = Expected(**values)
    if (expected.threshold is None) == (expected.at_most is None):
        raise UserError(f'{path}: give threshold, which the mean must reach, or at_most for a control; one of the two')
    if expected.by and expected.overrides:
        raise UserError(f'{path}: by is of the run of a recipe as it is written; leave out overrides')
    seeds = [str(seed) for seed in expected.seeds]
    for field, of, allowed in (('results', 'seeds', seeds), ('minutes', 'results', list(expected.results or ()))):
        if unknown := set(getattr(expected, field) or ()) - set(allowed):
            raise UserError(
                f'{path}: {field} has {", ".join(sorted(unknown))}, which {of} {[*map(int, allowed)]} has not'
            )
    return expected


NUMBER, NUMBERS = 'a number', 'an object of numbers by name'
TAKES = {
    'config': 'a text',
    'metric': 'a text such as "test/accuracy"',
    'command': 'a text',
    'over': 'a text such as "test/accuracy"',
    'by': 'a text',
    'needs': 'a text',
    'overrides': 'a list of texts',
    'seeds': 'a list of different whole numbers, from 0 on',
    'floor': NUMBERS,
    'threshold': NUMBER,
    'each': NUMBER,
    'at_most': NUMBER,
    'results': f'{NUMBERS}, or null',
    'minutes': f'{NUMBERS}, or null',
}


def _fits(field: str, value: Any) -> bool:
    def number(x: Any) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool)

    takes = TAKES[field]
    if takes.startswith('a text'):
        return isinstance(value, str)
    if takes == NUMBER:
        return value is None or number(value)
    if takes.startswith(NUMBERS):
        by_name = isinstance(value, dict) and all(map(number, value.values()))
        return by_name or (value is None and takes.endswith('or null'))
    if field == 'overrides':
        return isinstance(value, list) and all(isinstance(x, str) for x in value)
    whole = isinstance(value, list) and all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in value)
    return whole and 0 < len(value) == len(set(value))


def recipe_of(expected: Expected, *, seed: int, root: Path = ROOT) -> Recipe:
    """The recipe with its overrides and a seed. Raises UserError where no evaluation gives the metric."""
    from mmjax.train.stages import by_name

    written = config.load_stages(str(root / expected.config), kind=Experiment)
    arguments = [*expected.overrides, '--seed', str(seed)]
    if isinstance(written, tuple):
        recipe: Recipe = config.override_stages(by_name(written), arguments, prog=expected.command)
    else:
        recipe = config.override(written, arguments, prog=expected.command)
    for metric in filter(None, (expected.metric, expected.over)):
        evaluation_of(recipe, expected, metric=metric, root=root)
    return recipe


def evaluation_of(recipe: Recipe, expected: Expected, *, metric: str, root: Path = ROOT) -> tuple[Evaluation, str]:
    """The evaluation that a metric is of, and the metric's name there: what follows EVALUATION/, or STAGE/EVALUATION/
    of a recipe with stages.
    """
    scored = config.load_file(str(root / expected.by), kind=Experiment) if expected.by else recipe
    stages = scored if isinstance(scored, dict) else {'': scored}
    known = {f'{stage}/{name}'.lstrip('/'): e for stage, x in stages.items() for name, e in x.evals.items()}
    parts, depth = metric.split('/'), 2 if isinstance(scored, dict) else 1
    evaluation, rest = '/'.join(parts[:depth]), '/'.join(parts[depth:])
    if evaluation not in known:
        where = expected.by or expected.config
        raise UserError(f'{where}: has no evaluation for {metric}{nearest(evaluation, known)}')
    return known[evaluation], rest


def check_seeds(name: str, expected: Expected, seeds: Sequence[int]) -> None:
    """Raises UserError for a seed whose score the file can't hold."""
    for seed in seeds:
        if seed not in expected.seeds:
            raise UserError(f'--write: seed {seed} is not one of the seeds {list(expected.seeds)} of {name}')


def write(name: str, scores: Mapping[int, float], *, minutes: Mapping[int, float], root: Path = ROOT) -> None:
    """Stores what was measured in the file; other seeds keep theirs. minutes: of those that were done in one go.

    Raises:
        UserError: for a seed that the file has not.
    """
    path = _path(name, root)
    check_seeds(name, read(name, root=root), list(scores))
    stored = read_json(path)
    before = stored.get('results') or {}
    # Minutes are of the score beside them.
    kept = {s: m for s, m in (stored.pop('minutes', None) or {}).items() if scores.get(int(s), before[s]) == before[s]}
    stored['results'] = _by_seed(before, scores)
    if taken := _by_seed(kept, minutes):
        stored['minutes'] = taken
    write_json(path, stored)


def _by_seed(stored: Mapping[str, float], measured: Mapping[int, float]) -> dict[str, float]:
    known = {int(seed): value for seed, value in stored.items()} | dict(measured)
    return {str(seed): known[seed] for seed in sorted(known)}


def _path(name: str, root: Path) -> Path:
    return root / 'configs' / 'expected' / f'{name}.json'
