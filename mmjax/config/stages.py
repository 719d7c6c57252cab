"""Several configs changed from one command line: `--seed 1 --finetune.steps 200 pretrain.model.fusion=late`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmjax.config.overrides import PATH, override, takes_value
from mmjax.config.tree import Node, to_tree
from mmjax.errors import UserError, nearest


def override_stages(
    stages: Mapping[str, Any], args: Sequence[str], *, prog: str = 'mmjax', known_flags: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the stages with the changes that `args` ask for, by name.

    A path that begins with the name of a stage changes that stage. Any other changes every stage, and each must have
    it. Else as `override`.
    """
    tree = to_tree(dict(stages), annotation=dict)
    return override(dict(stages), list(_named(tree, args, known_flags=known_flags)), prog=prog, known_flags=known_flags)


def _named(tree: Node, args: Sequence[str], *, known_flags: Sequence[str]) -> Iterator[str]:
    """['--seed', '1'] -> ['--pretrain.seed', '1', '--finetune.seed', '1']."""
    names = {_snake(name) for name in tree.children}
    fields = {_snake(name) for stage in tree.children.values() for name in stage.children}
    tokens = list(args)
    while tokens:
        token = tokens.pop(0)
        dashes = '--' if token.startswith('--') else ''
        path, equals, _ = token.removeprefix('--').partition('=')
        if not PATH.fullmatch(path) or not (dashes or equals) or token == '--help':
            yield token
            continue
        head = _snake(path.split('.')[0])
        one = head in names
        if not one and head not in fields:
            known = [f'{dashes}{name}' for name in [*tree.children, *fields]] + [*known_flags] * bool(dashes)
            there = ', '.join(tree.children)
            hint = nearest(f'{dashes}{head}', known) or f' (the stages are {there})'
            raise UserError(f'{dashes}{path}: begins with no stage, and no stage has such a field{hint}')
        places = [token] if one else [f'{dashes}{name}.{token.removeprefix("--")}' for name in tree.children]
        values: list[str] = []
        while dashes and not equals and tokens and not tokens[0].startswith('--') and tokens[0] != '-h':
            if _swaps(tokens[0]) and (values or not takes_value(tree, places[:1])):
                break
            values.append(tokens.pop(0))
        for place in places:
            yield from (place, *values)


def _snake(name: str) -> str:
    return name.replace('-', '_')


def _swaps(token: str) -> bool:
    path, equals, _ = token.partition('=')
    return bool(equals) and PATH.fullmatch(path) is not None
