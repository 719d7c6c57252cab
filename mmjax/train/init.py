"""Starting at the parameters of another run: what fits is found and told before anything trains, then read."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment, InitFrom
from mmjax.nn.lora import merged
from mmjax.paths import beginnings, check_patterns, flat, nested, reach
from mmjax.sharding import replicated
from mmjax.storage import AnyPath, path_of
from mmjax.train.checkpoint import reading
from mmjax.train.directory import load_experiment, packages_of
from mmjax.train.files import read_json
from mmjax.train.manifest import history
from mmjax.train.state import TrainState
from mmjax.train.vocabulary import check_loaded
from mmjax.types import Shapes

ORIGIN = ('run', 'step', 'parameters', 'config_hash', 'commit')
ADAPTER = ('/lora/a', '/lora/b')


@dataclass(frozen=True)
class Match:
    """loaded: by path in the new run, that in the old one. new: paths that start fresh. unused: of the old run."""

    loaded: dict[str, str]
    new: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """Parameters of a step of a run, and what is taken of them. part: of its state, 'params' or 'ema'."""

    run: AnyPath
    step: int
    part: str
    match: Match
    old: Shapes

    @property
    def origin(self) -> dict[str, Any]:
        """Which run, config, code and step it is."""
        manifest = self.run / 'manifest.json'
        last = history(read_json(manifest))[-1] if manifest.exists() else {}
        known = {name: last.get(name) for name in ORIGIN[3:]}
        return {'run': str(self.run), 'step': self.step, 'parameters': self.part, **known}


def find_start(experiment: Experiment, new: Any, *, run: AnyPath | None) -> Start | None:
    """Where a run that begins takes its parameters from; None: it starts fresh. new: its abstract parameters. run: its
    directory, beside which those of the earlier stages are.

    Raises:
        UserError: where there is no such run, or it and `init_from` do not fit the model (see `match`).
    """
    init = experiment.init_from
    if not init.given:
        return None
    if init.stage and run is None:
        raise UserError(f'init_from.stage {init.stage}: there are no stages here; name a directory in init_from.run')
    source = path_of(init.run) if run is None or init.run else run.parent / init.stage
    if not (source / 'checkpoints').is_dir():
        names = [str(path.parent) for path in source.parent.glob('*/checkpoints')]
        raise UserError(f'init_from: {source} is no run with a checkpoint{nearest(str(source), names)}')
    step, part = newest_step(source), 'ema'
    with reading(source) as checkpoints:
        old = checkpoints.leaves(step, part=part) if init.average else {}
        if not old:
            part = 'params'
            old = checkpoints.leaves(step, part=part)
    found = match(init, old, flat(new), source=str(source))
    if (source / 'config.json').exists():
        check_loaded(experiment, read_json(source / 'config.json'), found.loaded, source=str(source))
    return Start(source, step, part, found, old)


def newest_step(run: AnyPath) -> int:
    """Of a run's checkpoints. Raises UserError where it has none."""
    with reading(run) as checkpoints:
        if not checkpoints.steps:
            raise UserError(f'init_from: {run} has no checkpoint yet; train it first')
        return checkpoints.steps[-1]


def match(init: InitFrom, old: Shapes, new: Shapes, *, source: str) -> Match:
    """Which parameters of an old run become which of a new one. Where a map sends two to one place, one that it names
    goes before one that had the place already.

    Raises:
        UserError: on shapes that differ, parts of `map` and `left_out` that are no parameters, two that are named for
            one place, or where nothing is loaded.
    """
    check_patterns(init.left_out, new, where='init_from.left_out')
    old = {path: x for path, x in old.items() if not path.endswith(ADAPTER)}
    _check_map(init.map, old, new)
    loaded: dict[str, str] = {}
    for path in sorted(old, key=lambda path: _key(init.map, path) is None):
        place, named = _mapped(init.map, path), _key(init.map, path) is not None
        if place not in new or any(reach(pattern, place) for pattern in init.left_out):
            continue
        if named and place in loaded:
            raise UserError(f'init_from.map: {loaded[place]} and {path} of the old run are both for {place}')
        loaded.setdefault(place, path)
    other = [(place, path) for place, path in loaded.items() if old[path].shape != new[place].shape]
    if other:
        place, path = other[0]
        more = f' ({len(other) - 1} more differ)' if other[1:] else ''
        raise UserError(
            f'init_from: {place} has shape {tuple(new[place].shape)}, and {path} of {source} has '
            f'{tuple(old[path].shape)}{more}; nothing is cut or interpolated, so add it to init_from.left_out to start '
            'it fresh'
        )
    if not loaded:
        there, wanted = (', '.join(dict.fromkeys(path.split('/')[0] for path in x)) for x in (old, new))
        raise UserError(
            f'init_from: no parameter of {source} is one of this model; it has {there}, the model {wanted}; '
            'init_from.map says which is which'
        )
    taken = set(loaded.values())
    return Match(loaded, tuple(p for p in new if p not in loaded), tuple(p for p in old if p not in taken))


def _key(names: Mapping[str, str], path: str) -> str | None:
    """The longest beginning of a path that is mapped."""
    return next((part for part in reversed(beginnings(path)) if part in names), None)


def _mapped(names: Mapping[str, str], path: str) -> str:
    key = _key(names, path)
    return path if key is None else names[key] + path[len(key) :]


def _check_map(names: Mapping[str, str], old: Shapes, new: Shapes) -> None:
    for key, value in names.items():
        for what, wanted, paths in (('the old run', key, old), ('this model', value, new)):
            known = dict.fromkeys(part for path in paths for part in beginnings(path))
            if wanted not in known:
                raise UserError(f"init_from.map {key} -> {value}: {what} has no '{wanted}'{nearest(wanted, known)}")


def load(start: Start, new: Any, mesh: jax.sharding.Mesh, *, experiment: Experiment) -> dict[str, jax.Array]:
    """The parameters that are taken, by their new path, placed as `new` says (see `abstract_state`).

    Nothing else of the old run is read. Its adapters are merged, for which its config is read.
    """
    shapes = flat(new)
    like = {old: shapes[place] for place, old in start.match.loaded.items()}
    adapters = {path: x for path, x in start.old.items() if path.endswith(ADAPTER) and _kernel(path) in like}
    whole = replicated(mesh)
    small = {path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole) for path, x in adapters.items()}
    with reading(start.run) as checkpoints:
        checkpoints.check(start.step)
        read = checkpoints.restore_some(start.step, like | small, part=start.part)
    if adapters:
        model = load_experiment(str(start.run), trust=packages_of(experiment)).model
        kernels = {_kernel(path) for path in adapters}
        shardings = nested({path: like[path].sharding for path in kernels})
        merge = jax.jit(functools.partial(merged, model), out_shardings=shardings)
        read |= flat(merge(nested({path: read[path] for path in kernels | adapters.keys()})))
    return {place: read[old] for place, old in start.match.loaded.items()}


def _kernel(adapter: str) -> str:
    return f'{adapter.removesuffix(ADAPTER[0]).removesuffix(ADAPTER[1])}/kernel'


def started(state: TrainState, loaded: Mapping[str, jax.Array]) -> TrainState:
    """A fresh state with these parameters, its moving average with them too; in each lane, where there are several.

    Each is a copy: a train step donates its state.
    """
    if not loaded:
        return state

    def replaced(params: Any) -> Any:
        there = flat(params)
        return nested(there | {path: jnp.copy(jnp.broadcast_to(x, there[path].shape)) for path, x in loaded.items()})

    return state.replace(params=replaced(state.params), ema=None if state.ema is None else replaced(state.ema))


def record(start: Start) -> dict[str, Any]:
    """What init.json holds."""
    found = start.match
    return start.origin | {'loaded': found.loaded, 'new': list(found.new), 'unused': list(found.unused)}


def told(run: AnyPath) -> dict[str, Any]:
    """Of a run that started from another one, which that was, for its manifest."""
    written = read_json(run / 'init.json')
    return {name: written[name] for name in ORIGIN}


def lines(start: Start, new: Any) -> list[str]:
    """What is loaded, new and not used, as lines to print: numbers of parameters by part, and names where a part is so
    in part.
    """
    sizes, found = {path: math.prod(x.shape) for path, x in flat(new).items()}, start.match
    old = {path: math.prod(x.shape) for path, x in start.old.items()}
    average = 'moving average' if start.part == 'ema' else 'parameters'
    said = [f'starting from {start.run}, step {start.step}, {average}:']
    for part, paths in _by_part(found.loaded).items():
        origins = sorted({found.loaded[p].split('/')[0] for p in paths} - {part})
        said.append(_line('loaded', part, paths, sizes) + (f'  from {", ".join(origins)}' if origins else ''))
    for what, everything, known in (('new', found.new, sizes), ('unused', found.unused, old)):
        for part, paths in _by_part(everything).items():
            some = len(paths) < len(_by_part(known)[part])
            names = [path.removeprefix(f'{part}/') for path in paths[:4]] + (['…'] if paths[4:] else [])
            said.append(_line(what, part, paths, known) + (f'  {", ".join(names)}' if some else ''))
    return said


def _by_part(paths: Iterable[str]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for path in paths:
        parts.setdefault(path.split('/')[0], []).append(path)
    return parts


def _line(what: str, part: str, paths: Iterable[str], sizes: Mapping[str, int]) -> str:
    return f'  {what:7}{part:24} {sum(sizes[path] for path in paths):14,}'
