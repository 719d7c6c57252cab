"""Drift: each field of a config is changed, and what lies around a run; it stops, tells, or goes on as the rule says.

Of a small run every field is given another value, and the run's directory is claimed with it, as training begins by:
what must match stops with both sides and the flag that would allow it, which then does; what may change is told to the
lineage; what is ignored is not. Each leaf of the state is asked for in another dtype and shape, left out, and a twin of
it added: each stops before anything is read, and is named. Then whole trainings, of which all must stop: another
optimizer and vocabulary though their fields are allowed, and other code, packages and data, which go on once allowed.
"""

import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import serialization

from mmjax.config.swaps import put, walk
from mmjax.config.tree import Node, from_tree, to_tree
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.faults import bar
from mmjax.faults.bar import Trial, victim
from mmjax.paths import flat, nested
from mmjax.train.checkpoint import reading
from mmjax.train.directory import claimed
from mmjax.train.drift import IGNORED, MAY, MUST, rule_of
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import abstract_state, mesh_of

STEPS = 2
AROUND = ('code', 'packages', 'data')
STATE = ('optimizer', 'vocabulary')
LEAVES = ('leaf/dtype', 'leaf/shape', 'leaf/missing', 'leaf/extra')


def run(*, trials: int, seed: int) -> list[Trial]:
    """trials: at most as many fields and leaves; nothing is drawn. seed: of the run."""
    experiment = dataclasses.replace(victim(steps=STEPS, every=1, keep=2), seed=seed)
    experiment = dataclasses.replace(experiment, evals=bar.experiment().evals)
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        train(experiment, workdir=str(base / 'whole'), report=False)
        (base / 'whole' / 'results.json').unlink()  # as of a run that was interrupted
        done = list(_fields(experiment, base / 'whole'))[:trials]
        done += list(_leaves(experiment, base / 'whole'))[:trials]
        return done + list(_trainings(experiment, base))


def _fields(experiment: Experiment, run: Path) -> Iterator[Trial]:
    tree = to_tree(experiment, annotation=Experiment)
    for spot in walk(tree):
        if not spot.is_flag:
            continue
        for value in _others(spot.value):
            with contextlib.suppress(UserError):
                yield _claimed(run, from_tree(put(tree, spot.path, value)), spot.name)
                break


def _others(value: Any) -> list[Any]:
    """What a field may be instead, the first that its class takes."""
    if isinstance(value, Node):
        if value.cls is dict:
            return [Node(dict, {'x': other}) for other in (1.0, 'x', 1)]
        shorter = dict(list(value.children.items())[:-1])
        return [Node(tuple, shorter)] if value.children else [Node(tuple, {'0': other}) for other in ('x', 1, 1.0)]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2]
    return [f'{value}x'] if isinstance(value, str) else ['x', 1, 1.0, True]


def _claimed(run: Path, changed: Experiment, path: str) -> Trial:
    """What becomes of a run that goes on with one field changed, held against the field's rule."""
    rule, said, told = rule_of(path), '', []
    if path == 'steps' and not changed.optim.schedule.depends_on_length():
        rule = MAY  # it is prolonged
    try:
        with claimed(run, changed) as changes:
            told = [change.path for change in changes]
    except UserError as error:
        said = str(error)
    named = [name for name in told if f'{name}.'.startswith(f'{path}.')]
    if rule == MUST:
        both = f'{path}' in said and ' was ' in said and ' and is ' in said and '--allow-drift' in said
        with claimed(run, changed, allow=[path]) as changes:
            right = both and [change.path for change in changes if f'{change.path}.'.startswith(f'{path}.')] != []
    else:
        right = not said and bool(named) == (rule == MAY)
    return Trial(rule, '' if right else f'{path}: {said or told}')


def _leaves(experiment: Experiment, run: Path) -> Iterator[Trial]:
    batch = shapes_of_batch(experiment)
    like = flat(serialization.to_state_dict(abstract_state(experiment, batch, mesh_of(experiment, batch))))
    with reading(run) as checkpoints:
        for path, leaf in like.items():
            if not hasattr(leaf, 'dtype'):
                continue
            other = 'float16' if leaf.dtype != 'float16' else 'float32'
            asked = {
                'dtype': {**like, path: jax.ShapeDtypeStruct(leaf.shape, other, sharding=leaf.sharding)},
                'shape': {**like, path: jax.ShapeDtypeStruct((*leaf.shape, 2), leaf.dtype, sharding=leaf.sharding)},
                'missing': {name: x for name, x in like.items() if name != path},
                'extra': {**like, f'{path}_twin': leaf},
            }
            for how, wanted in asked.items():
                named = f'{path}_twin' if how == 'extra' else path
                try:
                    checkpoints.restore(STEPS, nested(wanted))
                    said = 'was restored'
                except UserError as error:
                    said = str(error)
                right = f'{named} was ' in said and ' and is ' in said
                yield Trial(f'leaf/{how}', '' if right else f'{named}: {said}')


def _trainings(experiment: Experiment, base: Path) -> Iterator[Trial]:
    without = dataclasses.replace(experiment, optim=dataclasses.replace(experiment.optim, ema=0.0))
    yield Trial('optimizer', _stopped(base, without, 'does not fit the experiment: ema/', allow=['optim']))
    tree = to_tree(experiment, annotation=Experiment)
    words = next(
        spot for spot in walk(tree) if spot.path[:2] == ('model', 'encoders') and spot.path[-1] == 'vocabulary'
    )
    larger = from_tree(put(tree, words.path, words.value + 8))
    yield Trial('vocabulary', _stopped(base, larger, f'{words.name} was {words.value} and is {words.value + 8}'))
    yield Trial('vocabulary', _stopped(base, larger, 'parameters was ', allow=['model']))
    both = ['model', 'parameters']
    yield Trial('vocabulary', _stopped(base, larger, 'does not fit the experiment: ', allow=both))
    for name in AROUND:
        yield Trial(name, _stopped(base, experiment, f'{name}.', began_with=name))
        yield Trial(name, _allowed(base, experiment, name))


def _stopped(base: Path, changed: Experiment, told: str, *, allow: Sequence[str] = (), began_with: str = '') -> str:
    """What is wrong with a training that should stop; '' where nothing is."""
    run = _copy(base, began_with)
    try:
        train(changed, workdir=str(run), report=False, allow_drift=allow)
    except UserError as error:
        said = str(error)
        right = told in said and ' was ' in said and ' and is ' in said
        return '' if right and not (run / 'results.json').exists() else f'said {said}'
    finally:
        shutil.rmtree(run)
    return f'went on, though {told}'


def _allowed(base: Path, experiment: Experiment, name: str) -> str:
    run = _copy(base, name)
    train(experiment, workdir=str(run), report=False, allow_drift=[name])
    entry = json.loads((run / 'manifest.json').read_text())['resumed'][-1]
    shutil.rmtree(run)
    return '' if entry.get('allowed') == [name] and name in entry else f'the lineage says {entry}'


def _copy(base: Path, began_with: str) -> Path:
    """A copy of the run, begun with something else."""
    run = Path(shutil.copytree(base / 'whole', base / 'copy'))
    if began_with:
        manifest = json.loads((run / 'manifest.json').read_text())
        first = next(iter(manifest[began_with]))
        manifest[began_with][first] = 'another'
        (run / 'manifest.json').write_text(json.dumps(manifest))
    return run


def main(argv: Sequence[str] | None = None) -> int:
    return bar.main('drift', (__doc__ or '').partition('\n')[0], run, trials=10_000, argv=argv)


KINDS = {MUST, MAY, IGNORED, *LEAVES, *STATE, *AROUND}

if __name__ == '__main__':
    sys.exit(main())
