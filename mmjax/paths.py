"""Names of parameters, `fusion/stack/layers/attend/query/kernel`, and the patterns that a config chooses them by.

A pattern is a path whose `*` stands for any characters, and means all that lies below it too: `encoders_image`,
`encoders_*`, `fusion/stack/layers/attend`, `*/kernel`, `*`.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from mmjax.errors import UserError, nearest


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by their path."""
    return flatten_dict(tree, sep='/')


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `flat`."""
    return unflatten_dict(dict(leaves), sep='/')


def beginnings(path: str) -> list[str]:
    """'a/b/c' -> ['a', 'a/b', 'a/b/c']."""
    parts = path.split('/')
    return ['/'.join(parts[: i + 1]) for i in range(len(parts))]


def reach(pattern: str, path: str) -> int:
    """How many names of the path a pattern takes before it fits; 0: it does not."""
    return next((i for i, part in enumerate(beginnings(path), start=1) if fnmatchcase(part, pattern)), 0)


def deciding(patterns: Sequence[str], path: str) -> str | None:
    """The pattern that decides over a path: of those that fit the one that reaches deepest, of these the one with most
    letters, of these the last.

        encoders_image/stack/layers/attend/query/lora/a     */lora before encoders_image before *
    """
    fitting = [(reach(p, path), len(p.replace('*', '')), i, p) for i, p in enumerate(patterns) if reach(p, path)]
    return max(fitting)[-1] if fitting else None


def check_patterns(patterns: Iterable[str], paths: Iterable[str], *, where: str) -> None:
    """Raises UserError for a pattern that fits no path, with the parts that there are."""
    paths = list(paths)
    for pattern in patterns:
        if not any(reach(pattern, path) for path in paths):
            known = dict.fromkeys(beginning for path in paths for beginning in beginnings(path))
            parts = ', '.join(dict.fromkeys(path.split('/')[0] for path in paths))
            raise UserError(f"{where}: '{pattern}' is no parameter{nearest(pattern, known)} (there are {parts})")
