"""What is chosen before anything is compiled, and what is made of what the compiler says."""

import dataclasses
import math
import shlex

import jax
import numpy as np
import pytest

from mmjax.config import override
from mmjax.errors import UserError
from mmjax.fusion.routed import Routed
from mmjax.plan import search as searching
from mmjax.plan import single
from mmjax.plan.estimate import POLICIES, Estimate, estimate, measure, remat_fields, with_remat
from mmjax.plan.links import Links
from mmjax.plan.program import GIB, Compiled, OutOfMemory
from mmjax.plan.tables import search_table
from mmjax.plan.topologies import parse_topology
from mmjax.sharding import MESH_AXES, MeshShape
from mmjax.sharding.candidates import abstract, candidates, held
from mmjax.train.flops import train_flops
from mmjax.train.prepare import prepare, shapes_of_batch
from mmjax.train.state import abstract_state
from tests.train import toy

TOPOLOGY = parse_topology('v5e:2x2')
REPLICAS = MeshShape()


def links_of(_, mesh):
    """On a square of four chips."""
    places, shape = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]), dict(mesh.shape)
    return Links(1e9, chip=1e9, network=1e9, sides=(2, 2), wrap=(False, False), mesh=shape, places=places)


@pytest.fixture(scope='module')
def experiment():
    return toy.experiment(batch_size=32)


@pytest.fixture(scope='module')
def facts(experiment):
    return measure(experiment, ('none', 'full'))


def test_one_example_is_traced(experiment, facts):
    """Without recomputation the FLOPs are those that training reports; with it there are more, and less is kept."""
    batch = shapes_of_batch(experiment)
    params = abstract_state(experiment, batch, abstract(MeshShape(), 1)).params
    model = train_flops(experiment, params, batch) / 32
    assert 0.6 * model < facts.flops['none'] < 1.1 * model  # the first layers hand no gradient on to their input
    assert facts.flops['full'] > facts.flops['none'] and facts.kept['full'] < facts.kept['none']


@pytest.mark.parametrize('shape', [MeshShape(), MeshShape(data=1, fsdp=4), MeshShape(data=2, fsdp=1, tensor=2)])
def test_the_state_is_counted_as_it_is_placed(experiment, facts, shape):
    mesh = abstract(shape, 4)
    state = abstract_state(experiment, shapes_of_batch(experiment), mesh)
    placed = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert facts.state * held(facts.boxed, mesh).shard == pytest.approx(placed, rel=0.01)


def test_fewer_bytes_and_more_time_with_less_kept(facts):
    def of(remat, accumulate=1, shape=REPLICAS):
        return estimate(
            facts,
            shape,
            remat=remat,
            accumulate=accumulate,
            batch_size=32,
            devices=4,
            peak_flops=1e12,
            links=links_of(None, abstract(shape, 4)),
        )

    assert of('full').bytes < of('none').bytes and of('full').seconds > of('none').seconds
    assert of('none', accumulate=8).bytes < of('none').bytes
    cut = MeshShape(data=1, fsdp=4)
    assert of('none', shape=cut).bytes < of('none').bytes
    assert of('none', accumulate=8, shape=cut).links > of('none', shape=cut).links  # gathered for each part


def test_keys_and_tokens_that_are_exchanged():
    """By hand: the towers' layers and the fusion's make keys and values of width 16, each of its own tokens."""
    experiment = toy.experiment(batch_size=32)
    facts = measure(experiment, ('none',))
    image, text = (experiment.model.encoders[name] for name in ('image', 'text'))
    encoded = 2 * 16 * (image.depth * (facts.tokens - 3) + text.depth * 3)
    assert facts.keys == facts.width * (encoded + 2 * 16 * experiment.model.fusion.depth * facts.tokens)
    assert facts.routed == 0
    fusion = Routed(depth=2, block=experiment.model.fusion.block, experts=4)
    mixed = dataclasses.replace(experiment, model=experiment.model.clone(fusion=fusion))
    assert measure(mixed, ('none',)).routed == facts.width * 16 * 2 * facts.tokens

    def links(facts, shape):
        given = {'remat': 'none', 'accumulate': 1, 'batch_size': 32, 'devices': 4, 'peak_flops': 1e12}
        return estimate(facts, shape, **given, links=links_of(None, abstract(shape, 4))).links

    sequence, expert = MeshShape(data=1, sequence=4), MeshShape(data=1, expert=4)
    none = dataclasses.replace(facts, keys=0.0)
    gathered = 3 * 3 / 4 * 32 * facts.keys  # three passes, in each what three others have
    assert links(facts, sequence) - links(none, sequence) == pytest.approx(gathered / 2e9)
    some = dataclasses.replace(facts, routed=1e6)
    assert links(some, expert) - links(facts, expert) == pytest.approx(6 * 3 * 8 * 1e6 / 2e9)


def test_every_mesh_uses_all_devices():
    for extra in (False, True):
        found = candidates(64, slices=2, sequence=extra, experts=extra)
        assert len(set(found)) == len(found) > 10
        assert all(math.prod(shape.sizes(64)) == 64 and shape.slices == 2 for shape in found)


def test_remat_is_set_wherever_there_is_one(experiment):
    changed = with_remat(experiment, 'full')
    assert len(remat_fields(experiment)) == 3
    assert changed.model.fusion.remat == changed.model.encoders['image'].remat == 'full'


def test_the_changes_that_are_told_make_the_candidate(experiment):
    choice = searching.Choice(MeshShape(data=2, fsdp=2), 'attention', 2, 16, Estimate(0.0, 0.0, 0.0))
    told = searching._changes(experiment, choice, 4)
    again, candidate = override(experiment, shlex.split(told)), searching._changed(experiment, choice)
    assert again.mesh.sizes(4) == candidate.mesh.sizes(4)
    assert dataclasses.replace(again, mesh=candidate.mesh) == candidate
    assert (
        searching._changes(experiment, searching.Choice(MeshShape(), 'none', 1, experiment.batch_size, choice.told), 4)
        == ''
    )


@pytest.fixture
def compiler(monkeypatch, facts):
    """A compiler that needs `factor` times what the model said, and finds a mesh the slower the more it is cut."""
    said = {}

    class Fake:
        factor, asked = 1.0, []

    def estimated(*args, **kwargs):
        told = estimate(*args, **kwargs)
        said[args[1], kwargs['remat'], kwargs['accumulate'], kwargs['batch_size']] = told.bytes
        return dataclasses.replace(told, bytes=told.bytes * 2**12)

    def plan(experiment, topology, *, quick=False):
        Fake.asked.append((experiment.mesh, experiment.model.fusion.remat, quick))
        key = experiment.mesh, experiment.model.fusion.remat, experiment.optim.accumulate, experiment.batch_size
        needs = said.get(key, 0) * 2**12 * Fake.factor / 2**30
        sizes = dict(zip(MESH_AXES, experiment.mesh.sizes(4), strict=True))
        result = {f'mesh/{axis}': size for axis, size in sizes.items()}
        result |= {'accumulate': experiment.optim.accumulate, 'batch_size': experiment.batch_size}
        if needs > topology.generation.hbm_gib:
            return single.Planned(result | {'fits': False, 'need_gib': needs}, '', False)
        times = {'seconds/compute': 1.0, 'seconds/attention': 0.0, 'seconds/links': float(experiment.mesh.fsdp)}
        return single.Planned(result | {'fits': True, 'peak_gib': needs} | times, '', False)

    monkeypatch.setattr(searching, 'POLICIES', ('none', 'full'))
    monkeypatch.setattr(searching, 'measure', lambda *_: facts)
    monkeypatch.setattr(searching, 'estimate', estimated)
    monkeypatch.setattr(searching, 'plan', plan)
    monkeypatch.setattr(searching, 'devices_of', lambda _: jax.devices()[:4])
    monkeypatch.setattr(searching, 'links_of', links_of)
    Fake.asked = []
    return Fake


def test_the_best_comes_first(experiment, compiler):
    result = searching.search(dataclasses.replace(experiment, mesh=MeshShape(data=1, fsdp=2, tensor=2)), TOPOLOGY)
    told = [result[f'search/{i}/seconds'] for i in (1, 2, 3)]
    assert told == sorted(told) and result['search/1/seconds'] == 2.0
    assert sum(quick for *_, quick in compiler.asked) == 2 and len(compiler.asked) == 5
    counted = result['search/considered'] - result['search/refused'] - result['search/pruned']
    assert counted == 2 and result['search/compiled'] == 5
    table = search_table(result)
    assert 'no overlap is claimed' in table[1] and '2.00 s = 1.00 + 0.00 + 1.00' in table[2]
    assert table[3].strip() == '--mesh.data 4 --mesh.fsdp 1 --mesh.tensor 1'
    assert 'as it stands (fsdp 2 x tensor 2)' in table[4] and table[6].startswith('  3  fsdp 4')
    compiler.asked.clear()
    assert searching.search(experiment, TOPOLOGY)['search/1/changes'] == ''  # the config is the best: compiled once
    assert len(compiler.asked) == 4


def test_of_batches_that_are_named_the_one_with_the_most_examples_a_second(experiment, compiler):
    """Here a step takes as long whatever it holds, so the largest that has room."""
    n = experiment.batch_size
    result = searching.search(experiment, TOPOLOGY, batches=(n // 2, n, 2 * n))
    assert result['batch_size'] == result['search/1/batch_size'] == 2 * n
    assert f'--batch-size {2 * n}' in result['search/1/changes']
    alone = searching.search(experiment, TOPOLOGY)
    assert alone['batch_size'] == n and result['search/considered'] == 3 * alone['search/considered']


def test_what_the_compiler_says_corrects_the_model(experiment, compiler):
    compiler.factor = 1e6
    with pytest.raises(UserError, match=r'none of the \d likeliest of \d+ candidates fits v5e:2x2'):
        searching.search(experiment, TOPOLOGY)
    assert len(compiler.asked) == 1  # with the model corrected a millionfold nothing else can fit


def test_the_model_is_corrected_both_ways(experiment, compiler):
    limit = TOPOLOGY.generation.hbm_gib * GIB
    mesh, told = MeshShape(data=4), Estimate(0.0, 1.0, 0.0)
    small = searching.Choice(mesh, 'full', 1, 8, dataclasses.replace(told, bytes=limit))
    large = searching.Choice(mesh, 'none', 1, 8, dataclasses.replace(told, bytes=2 * limit))
    space = searching.Space([[large, small]], 2, 0)

    def first(corrections, seen=()):
        return next(searching._in_order(space, set(seen), corrections, limit=limit), None)

    assert first({}) == small
    assert first({'full': 0.5, searching.ANY: 0.5}) == large  # of another policy the last that is known
    assert first({'none': 1.1, searching.ANY: 0.5}) == small
    assert first({'none': 1.1, 'full': 1.1, searching.ANY: 1.1}) is None


def test_what_cannot_be_traced_ends_the_search(experiment, compiler, monkeypatch):
    asked = []

    def refuse(one, topology, **_):
        asked.append(one.mesh)
        raise UserError('an activation does not divide')

    monkeypatch.setattr(searching, 'plan', refuse)
    with pytest.raises(UserError, match='none of the'):
        searching.search(experiment, TOPOLOGY)
    shapes = candidates(4)
    assert len(asked) == len(set(asked)) == min(searching.REFUSED, len(shapes))
    asked.clear()
    monkeypatch.setattr(searching, 'REFUSED', 2)
    with pytest.raises(UserError, match='none of the'):
        searching.search(experiment, TOPOLOGY)
    assert len(asked) == 2


class Lowered:
    """A traced program of which only the text is asked."""

    def __init__(self, text):
        self.as_text = lambda: text


def test_a_program_is_compiled_once(experiment, monkeypatch, tmp_path):
    compiled, text = [], 'one program'
    prepared = prepare(experiment, run=None, devices=jax.devices()[:4])

    def compile_step(lowered, *, quick):
        compiled.append((lowered.as_text(), quick))
        return OutOfMemory(9 * 2**30, 2**30, 0.0) if text == 'large' else Compiled(1, 1, 1, 1, 1, 0, 0.0, 'text')

    read = []
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    monkeypatch.setattr(single, 'trace', lambda *_: single.Traced(prepared, Lowered(text)))
    monkeypatch.setattr(single, 'compile_step', compile_step)
    told = {'seconds/compute': 1.0, 'seconds/links': 2.0}
    monkeypatch.setattr(single, 'analyse', lambda text, *_, **__: read.append(text) or told)
    monkeypatch.setattr(single, 'COMPILERS', {'tpu': 'jax'})
    first = single.plan(experiment, TOPOLOGY)
    assert not first.cached and first.result['seconds/compute'] == 1.0 and first.text == 'text'
    assert single.plan(experiment, TOPOLOGY) == first._replace(cached=True)
    assert read == ['text', 'text']  # read anew each time
    quick = single.plan(experiment, TOPOLOGY, quick=True)
    assert not quick.cached and 'seconds/compute' not in quick.result and quick.result['seconds/links'] == 2.0
    text = 'another'  # of the same config, as after a change of the code
    single.plan(experiment, TOPOLOGY, quick=True)
    assert compiled == [('one program', False), ('one program', True), ('another', True)]
    text = 'large'
    refused = single.plan(experiment, TOPOLOGY)
    assert not refused.cached and refused.result['missing_gib'] == 8.0
    assert single.plan(experiment, TOPOLOGY) == refused._replace(cached=True)


def test_there_is_no_time_of_gpus_to_rank_by(experiment):
    with pytest.raises(UserError, match='no time is known'):
        searching.search(experiment, parse_topology('h100:1x8'))
    assert 'offload' not in POLICIES
