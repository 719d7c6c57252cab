"""`--search`: meshes, remat policies, accumulation and batches, by an analytic model first, then by the compiler."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.plan.estimate import POLICIES, Estimate, Facts, estimate, measure, remat_fields, with_remat
from mmjax.plan.links import Links
from mmjax.plan.parts import SECONDS, say, total, under
from mmjax.plan.placement import links_of
from mmjax.plan.program import GIB
from mmjax.plan.single import devices_of, plan
from mmjax.plan.topologies import Topology
from mmjax.sharding import MeshShape, check_batch
from mmjax.sharding.candidates import abstract, candidates, has_axis, sizes_of, written
from mmjax.sharding.presets import Auto

REFUSED = 5  # traced in vain, as an activation does not divide: of an 8 B model a minute each
QUICK = 5  # compiles at the lowest level, for memory: of an 8 B model a minute or two of a core each
ANY = '*'  # remat policy
FINALISTS = 2  # compiled at the default level, beside the config as it stands
ACCUMULATE = (1, 2, 4, 8, 16)
LONG = 16_384  # tokens of an example above which its length is cut too


class Choice(NamedTuple):
    """A candidate and what the analytic model says of it. remat: '' where nothing has such a field."""

    mesh: MeshShape
    remat: str
    accumulate: int
    batch_size: int
    told: Estimate

    @property
    def seconds(self) -> float:
        """For each example."""
        return self.told.seconds / self.batch_size


class Space(NamedTuple):
    """All choices, by mesh; and what was left out, by why."""

    by_mesh: list[list[Choice]]
    considered: int
    refused: int


def search(experiment: Experiment, topology: Topology, *, batches: Sequence[int] = ()) -> dict[str, Any]:
    """The plan of the best that was found, with `search/N/…` of all that were compiled at the default level, the best
    first, and `search/considered`, `/refused` (they do not divide), `/pruned`, `/compiled` and `/cached`.

    batches: global batches to choose from, by the time of an example; none: that of the config stays.

    Of each mesh, the remat policy, accumulation and batch that the analytic model finds fastest among those that fit;
    of the meshes, in the order of its times, up to QUICK are compiled for their memory, until FINALISTS fit; after
    REFUSED that cannot be traced it ends too. What the compiler needs of what the model said corrects the model for
    what comes after, up or down: for the same remat policy, and until one is compiled for any other. The finalists and
    the config as it stands are ranked by the sum of SECONDS for an example: nothing is taken off for what overlaps.

    Raises:
        UserError: where nothing fits.
    """
    if topology.generation.platform != 'tpu':
        raise UserError(f'--search: of {topology.generation.name} no time is known to rank by; plan without it')
    policies = POLICIES if remat_fields(experiment) else ('',)
    facts = measure(experiment, policies)
    space = _space(experiment, topology, facts, policies, batches or (experiment.batch_size,))
    left = f'{len(space.by_mesh)} meshes are left'
    say('search', f'{space.considered} candidates, {space.refused} of them do not divide; {left}')
    fitting, tried, cached = _fitting(experiment, topology, space)
    if not fitting:
        raise UserError(
            f'--search: none of the {tried} likeliest of {space.considered} candidates fits {topology.name}; take a '
            'larger slice or a smaller batch'
        )
    rows, pruned = [], space.considered - space.refused - tried
    stands = [('as it stands', experiment, '')] if all(changed for *_, changed in fitting) else []
    for name, one, changed in [*fitting, *stands]:
        try:
            result, _, was_there = plan(one, topology)
        except UserError as error:  # the config as it stands
            say('search', f'{name}: {error}')
            continue
        cached += was_there
        tried += 1
        rows.append((name, result, changed))
    rows.sort(key=lambda row: (not row[1]['fits'], total(row[1]) / row[1]['batch_size']))
    best = dict(rows[0][1])
    best |= {'search/considered': space.considered, 'search/refused': space.refused, 'search/pruned': pruned}
    best |= {'search/compiled': tried, 'search/cached': cached}
    for i, (name, result, changed) in enumerate(rows, start=1):
        row = {'what': name, 'changes': changed, 'fits': result['fits']}
        row |= {
            'mesh': written(under(result, 'mesh')),
            'accumulate': result['accumulate'],
            'batch_size': result['batch_size'],
        }
        if result['fits']:
            row |= {'peak_gib': result['peak_gib'], 'seconds': total(result)}
            row |= {part: result[part] for part in SECONDS.values()}
        best |= {f'search/{i}/{key}': value for key, value in row.items()}
    return best


def _space(
    experiment: Experiment, topology: Topology, facts: Facts, policies: tuple[str, ...], batches: Sequence[int]
) -> Space:
    devices, all_devices = topology.devices, devices_of(topology)
    long = facts.tokens >= LONG or min(batches) < devices
    shapes = candidates(devices, slices=topology.slices, sequence=long, experts=has_axis(facts.boxed, 'expert'))
    by_mesh, considered, refused = [], 0, 0
    of_a_mesh = len(policies) * len(ACCUMULATE) * len(batches)
    for shape in shapes:
        considered += of_a_mesh
        try:
            links: Links = links_of(topology, shape.build(all_devices))
        except (UserError, NotImplementedError, ValueError):  # its axes do not lie on this torus
            refused += of_a_mesh
            continue
        found = []
        for accumulate, batch_size in itertools.product(ACCUMULATE, batches):
            try:
                check_batch(batch_size, abstract(shape, devices), accumulate=accumulate)
                told = functools.partial(_estimate, topology, facts, shape, links, accumulate, batch_size)
                found += [Choice(shape, remat, accumulate, batch_size, told(remat)) for remat in policies]
            except UserError:
                refused += len(policies)
        if found:
            by_mesh.append(sorted(found, key=lambda choice: choice.seconds))
    return Space(by_mesh, considered, refused)


def _estimate(
    topology: Topology,
    facts: Facts,
    shape: MeshShape,
    links: Links,
    accumulate: int,
    batch_size: int,
    remat: str,
) -> Estimate:
    return estimate(
        facts,
        shape,
        remat=remat,
        accumulate=accumulate,
        batch_size=batch_size,
        devices=topology.devices,
        peak_flops=topology.generation.flops,
        links=links,
    )


def _fitting(
    experiment: Experiment, topology: Topology, space: Space
) -> tuple[list[tuple[str, Experiment, str]], int, int]:
    """Up to FINALISTS that the compiler finds room for: name, experiment, and the changes that make it; how many were
    compiled; how many of them were there already.
    """
    found, compiled, cached, refused, seen = [], 0, 0, 0, set()
    corrections: dict[str, float] = {}
    while compiled < QUICK and refused < REFUSED and len(found) < FINALISTS:
        limit = topology.generation.hbm_gib * GIB
        choice = next(_in_order(space, seen, corrections, limit=limit), None)
        if choice is None:
            break
        seen.add(choice)
        name = _name(choice, topology.devices)
        try:
            candidate = _changed(experiment, choice)
            result, _, was_there = plan(candidate, topology, quick=True)
        except UserError as error:  # an activation that does not divide is found when the step is traced
            say('search', f'{name}: {error}')
            seen |= {other for mesh in space.by_mesh for other in mesh if other.mesh == choice.mesh}
            refused += 1
            continue
        compiled += 1
        cached += was_there
        needs = result['peak_gib'] if result['fits'] else result['need_gib']
        guess = choice.told.bytes / GIB
        verdict = 'fits' if result['fits'] else 'does not fit'
        say('search', f'{name}: {verdict}, {needs:.2f} GiB (the model said {guess:.2f})')
        corrections |= {choice.remat: needs / guess, ANY: needs / guess}
        if result['fits']:
            found.append((name, candidate, _changes(experiment, choice, topology.devices)))
            seen |= {other for mesh in space.by_mesh for other in mesh if other.mesh == choice.mesh}
    return found, compiled, cached


def _in_order(space: Space, seen: set[Choice], corrections: Mapping[str, float], *, limit: float) -> Iterator[Choice]:
    """Of each mesh the fastest that has room, the fastest mesh first."""

    def fits(choice: Choice) -> bool:
        return choice.told.bytes * corrections.get(choice.remat, corrections.get(ANY, 1.0)) <= limit

    firsts = (next((c for c in mesh if c not in seen and fits(c)), None) for mesh in space.by_mesh)
    yield from sorted((c for c in firsts if c is not None), key=lambda choice: choice.seconds)


def _changed(experiment: Experiment, choice: Choice) -> Experiment:
    optim = dataclasses.replace(experiment.optim, accumulate=choice.accumulate)
    changed = dataclasses.replace(experiment, mesh=choice.mesh, optim=optim, batch_size=choice.batch_size)
    return with_remat(changed, choice.remat) if choice.remat else changed


def _changes(experiment: Experiment, choice: Choice, devices: int) -> str:
    """On a command line, what differs; '' where nothing does. An axis that is -1 takes what the others leave."""
    sizes = sizes_of(choice.mesh, devices)
    told = ['mesh=mmjax.sharding:MeshShape'] * isinstance(experiment.mesh, Auto)
    told += [f'--mesh.{axis} {n}' for axis, n in sizes.items() if getattr(experiment.mesh, axis) not in (-1, n)]
    if choice.batch_size != experiment.batch_size:
        told.append(f'--batch-size {choice.batch_size}')
    if choice.accumulate != experiment.optim.accumulate:
        told.append(f'--optim.accumulate {choice.accumulate}')
    fields = remat_fields(experiment) if choice.remat else {}
    told += [f'--{path.replace("_", "-")} {choice.remat}' for path, old in fields.items() if old != choice.remat]
    return ' '.join(told)


def _name(choice: Choice, devices: int) -> str:
    remat = f', remat {choice.remat}' if choice.remat else ''
    return (
        f'{written(sizes_of(choice.mesh, devices))}{remat}, accumulate {choice.accumulate}, batch {choice.batch_size}'
    )
