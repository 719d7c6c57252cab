"""Drift: what may differ when a run goes on, by a rule for each field of its config and for what lies around it.

A run that goes on under something else is another run, and nobody sees it in its numbers. So what decides them must
match, or the user names the field in `--allow-drift`; what was changed then stands in the manifest, in `resumed`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import shorten
from typing import Any, NamedTuple

from mmjax.config.differences import ABSENT
from mmjax.errors import UserError, nearest

MUST, MAY, IGNORED = 'must match', 'may change', 'ignored'

# By the beginning of a path, of which the longest counts; '*' is any one name, '**' are any names, or none.
RULES = {
    'name': MUST,
    'model': MUST,
    'data': MUST,
    'data.**.workers': IGNORED,  # who reads an example, and what is kept of it, changes no batch
    'data.**.cache': IGNORED,
    'objectives': MUST,
    'evals': MUST,
    'evals.*.every': MAY,
    'evals.*.references': IGNORED,
    'evals.*.data.workers': IGNORED,
    'evals.*.data.cache': IGNORED,
    'optim': MUST,
    'steps': MUST,  # more of them are another matter where no rate depends on their number, see `directory`
    'batch_size': MUST,
    'seed': MUST,
    'precision': MUST,
    'mesh': MAY,
    'checkpoint': MAY,
    'log': MAY,
    'log.tensorboard': IGNORED,
    'log.wandb': IGNORED,
    'balance': MUST,
    'init_from': MUST,
    'deterministic': MUST,
    'patience': IGNORED,
    'bad_records': MAY,
    'guard': MAY,
}
# The entries of manifest.json.
AROUND = {
    'code': MUST,
    'packages': MUST,
    'data': MUST,
    'labels': MUST,
    'parameters': MUST,
    'commit': MAY,
    'dirty': MAY,
    'python': MAY,
    'platform': MAY,
    'device': MAY,
    'xla_flags': MAY,
    'compiler_options': MAY,
    'init_from': MAY,
    'config_hash': IGNORED,  # follows from the config
    'config_file': IGNORED,
}
SAME_RUN = tuple(name for name, rule in RULES.items() if '.' not in name and rule != MUST)
"""The fields of an experiment that do not make it another run."""
MOST = 5  # differences that are told


class Change(NamedTuple):
    """A field of a run that goes on, as it was and as it is."""

    path: str
    was: Any
    now: Any


def rule_of(path: str) -> str:
    """The rule of a field of the config; what has none must match."""
    found = {pattern: rule for pattern, rule in RULES.items() if _reaches(pattern, path)}
    return found[max(found, key=lambda pattern: pattern.count('.'))] if found else MUST


def rule_around(change: Change) -> str:
    """The rule of an entry of the manifest. What is there on one side alone nothing can be held against: a manifest of
    before the entry existed, an evaluation that is new.
    """
    rule = AROUND.get(change.path.split('.')[0], MAY)
    return MAY if rule == MUST and ABSENT in (change.was, change.now) else rule


def settle(
    changes: Iterable[Change], rule: Callable[[Change], str], *, allow: Sequence[str], heading: str
) -> list[Change]:
    """Those of the changes that the lineage of a run tells of.

    Raises:
        UserError: with both sides, where something must match, does not, and is not allowed.
    """
    told = [change for change in changes if rule(change) != IGNORED]
    stops = [change for change in told if rule(change) == MUST and not _allowed(change.path, allow)]
    if not stops:
        return told
    lines = [f'{path} was {was} and is {now}' for path, was, now in map(_narrowed, stops[:MOST])]
    if stops[MOST:]:
        lines.append(f'{len(stops) - MOST} more differ')
    fields = dict.fromkeys(change.path if stops[:3] == stops else change.path.split('.')[0] for change in stops)
    flags = ' '.join(f'--allow-drift {field or "model"}' for field in fields)
    said = '\n  '.join(lines)
    raise UserError(
        f'{heading}: {said}; choose another --workdir, remove the directory, or add {flags} to go on all the same'
    )


def around(last: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """What differs between two manifests of one run, in the order of the table.

    A manifest of before `code` existed tells of it by its commit, where both are known.
    """
    found = [change for name in AROUND for change in _parted(name, last.get(name, ABSENT), now.get(name, ABSENT))]
    if 'code' not in last and None not in (was := last.get('commit'), of := now.get('commit')) and was != of:
        found = [Change('code.commit', was, of), *(change for change in found if change.path != 'code')]
    return found


def check_allowed(allow: Sequence[str]) -> None:
    """Raises UserError where --allow-drift names nothing that could differ."""
    known = [name for name in {**RULES, **AROUND} if '.' not in name]
    for field in allow:
        if (head := _snake(field).split('.')[0]) not in known:
            raise UserError(f'--allow-drift {field}: no such field{nearest(head, known)}; there are {", ".join(known)}')


def _parted(path: str, was: Any, now: Any) -> Iterator[Change]:
    """The places where two values differ; of two lists the first."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            yield from _parted(f'{path}.{name}', was.get(name, ABSENT), now.get(name, ABSENT))
    elif was != now:
        yield Change(path, was, now)


def _narrowed(change: Change) -> tuple[str, str, str]:
    """A change as it is told: of two long lists, where they part."""
    path, was, now = change
    if isinstance(was, list) and isinstance(now, list):
        at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
        path, was, now = f'{path}.{at}', *((x[at] if at < len(x) else ABSENT) for x in (was, now))
    return path or 'the class', _short(was), _short(now)


def _short(value: Any) -> str:
    return shorten(str(value), 100, placeholder=' …') if value != '' else "''"


def _allowed(path: str, allow: Sequence[str]) -> bool:
    return any(f'{_snake(path)}.'.startswith(f'{_snake(field)}.') for field in allow)


def _snake(name: str) -> str:
    return name.replace('-', '_')


def _reaches(pattern: str, path: str) -> bool:
    names = re.escape(pattern).replace(r'\*\*\.', r'(.+\.)?').replace(r'\*', r'[^.]+')
    return re.fullmatch(rf'{names}(\..*)?', path) is not None
