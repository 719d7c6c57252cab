"""What differs between two dumps."""

from typing import Any

from mmjax.config.tree import join

ABSENT = '(absent)'


def diff(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (path, value in a, value in b) of everything that differs between two dumps, in the order of a.

    A swapped class is one entry: both class names, each with those of its fields that the other lacks or has otherwise.

        ('model.fusion', 'Early(depth=4)', 'Bottleneck(depth=2, num_tokens=4)')

    `commit`, which says who wrote a dump, is no part of the config.
    """
    a, b = ({key: value for key, value in dumped.items() if key != 'commit'} for dumped in (a, b))
    return _diff(a, b, path='')


def _diff(a: Any, b: Any, *, path: str) -> list[tuple[str, Any, Any]]:
    a_parts, b_parts = _parts(a), _parts(b)
    if a_parts is None or b_parts is None or _is_leaf(a) or _is_leaf(b):
        return [] if _same(a, b) else [(path, _show(a, _parts(b) or {}), _show(b, _parts(a) or {}))]
    if a_parts.get('class') != b_parts.get('class'):
        return [(path, _show(a, b_parts), _show(b, a_parts))]
    names = [*a_parts, *(name for name in b_parts if name not in a_parts)]
    return [
        found
        for name in names
        for found in _diff(a_parts.get(name, ABSENT), b_parts.get(name, ABSENT), path=join(path, name))
    ]


def _parts(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list):
        return {str(i): item for i, item in enumerate(value)}
    return value if isinstance(value, dict) else None


def _is_leaf(value: Any) -> bool:
    """A list of plain values differs as a whole."""
    return isinstance(value, list) and not any(isinstance(item, list | dict) for item in value)


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _show(value: Any, other: dict[str, Any]) -> Any:
    """A part as 'Class(field=value)' without the fields that `other` has too; anything else as it is."""
    if not (isinstance(value, dict) and 'class' in value):
        return value
    fields = ', '.join(
        f'{name}={_short(item)}'
        for name, item in value.items()
        if name not in ('class', 'schema') and other.get(name, ABSENT) != item
    )
    return _short(value) + (f'({fields})' if fields else '')


def _short(value: Any) -> str:
    return value['class'].rpartition('.')[2] if isinstance(value, dict) and 'class' in value else repr(value)
