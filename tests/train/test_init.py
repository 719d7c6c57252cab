"""Starting at another run's parameters: which become which, and that they are the ones that were saved."""

import dataclasses
import json
import logging
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.errors import UserError
from mmjax.experiment import InitFrom
from mmjax.fusion.lora import LoraFusion
from mmjax.nn.lora import merged
from mmjax.optim import AdamW, WarmupConstant
from mmjax.paths import flat, nested
from mmjax.sharding import MeshShape
from mmjax.train.checkpoint import Checkpoints
from mmjax.train.files import write_json
from mmjax.train.init import find_start, load, match
from mmjax.train.lanes import Lanes
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import TrainState, abstract_state
from tests.train import toy


def shapes(**sizes):
    return {path.replace('__', '/'): jax.ShapeDtypeStruct(size, np.float32) for path, size in sizes.items()}


OLD = shapes(photo__a=(2,), photo__b=(3, 4), text__a=(5,), head__w=(6,), text__lora__a=(9,))
NEW = shapes(image__a=(2,), image__b=(3, 4), text__a=(5,), head__w=(7,), text__lora__a=(8,))


def found(**fields):
    return match(InitFrom('runs/a', **fields), OLD, NEW, source='runs/a')


def test_reading_checkpoints_warns_of_nothing(tmp_path, caplog):
    Checkpoints(tmp_path, keep=1).close()
    Checkpoints(tmp_path, keep=None).close()
    assert not caplog.records
    logging.getLogger('absl').warning('something else')
    assert [record.message for record in caplog.records] == ['something else']


def test_what_is_loaded_new_and_unused():
    """Adapters are part of the old weights, and always new."""
    m = found(map={'photo': 'image'}, left_out=('head',))
    assert m.loaded == {'image/a': 'photo/a', 'image/b': 'photo/b', 'text/a': 'text/a'}
    assert m.new == ('head/w', 'text/lora/a') and m.unused == ('head/w',)


def test_the_longest_beginning_is_mapped_and_what_is_named_goes_first():
    old = shapes(a__b__c=(1,), a__b__d=(1,), a__e=(1,), x__c=(1,), y__e=(1,))
    new = shapes(x__c=(1,), x__d=(1,), y__e=(1,))
    m = match(InitFrom('r', map={'a': 'y', 'a/b': 'x'}), old, new, source='r')
    assert m.loaded == {'x/c': 'a/b/c', 'x/d': 'a/b/d', 'y/e': 'a/e'} and m.unused == ('x/c', 'y/e')


@pytest.mark.parametrize(
    ('fields', 'told'),
    [
        ({}, r'head/w has shape \(7,\), and head/w of runs/a has \(6,\); .*left_out'),
        ({'map': {'phto': 'image'}}, "init_from.map phto -> image: the old run has no 'phto'; did you mean 'photo'"),
        ({'map': {'photo': 'imag'}}, "photo -> imag: this model has no 'imag'; did you mean 'image'"),
        ({'map': {'pho': 'image'}}, "the old run has no 'pho'"),  # whole names alone
        (
            {'map': {'photo/a': 'image/a', 'text/a': 'image/a'}},
            'photo/a and text/a of the old run are both for image/a',
        ),
        ({'left_out': ('haed',)}, "init_from.left_out: 'haed' is no parameter; did you mean 'head'"),
        (
            {'left_out': ('*',)},
            'no parameter of runs/a is one of this model; it has photo, text, head, the model image',
        ),
        ({'map': {'head': 'image'}, 'left_out': ('head',)}, 'no parameter'),
    ],
)
def test_what_does_not_fit_is_told(fields, told):
    with pytest.raises(UserError, match=told):
        if fields.get('map') == {'head': 'image'}:
            match(InitFrom('runs/a', **fields), shapes(head__w=(6,)), NEW, source='runs/a')
        found(**fields)


def test_fields_that_contradict():
    for init in (
        InitFrom('a', stage='b'),
        InitFrom(left_out=('x',)),
        InitFrom(map={'a': 'b'}),
        InitFrom(average=False),
    ):
        with pytest.raises(UserError, match=r'^init_from'):
            toy.experiment(init_from=init).check()


CONSTANT = WarmupConstant(peak=1e-2, warmup=0)
PROBE = {'*': 0.0, 'decoders_answer': 1.0}  # a linear probe


def small(**changes):
    optim = AdamW(schedule=CONSTANT, ema=0.5)
    return toy.experiment(**({'steps': 2, 'optim': optim, 'evals': {}} | changes))


def saved(run, *, part):
    """The arrays of the newest checkpoint, by path."""
    checkpoints = Checkpoints(run / 'checkpoints', keep=None)
    step = checkpoints.steps[-1]
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        path: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one)
        for path, x in checkpoints.leaves(step, part=part).items()
    }
    arrays = {path: np.asarray(x) for path, x in checkpoints.restore_some(step, like, part=part).items()}
    checkpoints.close()
    return arrays


def write(run, experiment, *, ema=True):
    """A run of two steps as it lies on disk, of random numbers."""
    one = experiment.mesh.build(jax.devices())
    shapes, rng = abstract_state(experiment, shapes_of_batch(experiment), one), np.random.default_rng(len(run.name))

    def draw(tree):
        return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), tree)

    run.mkdir()
    write_json(run / 'config.json', config.dump(experiment))
    write_json(run / 'manifest.json', {'config_hash': config.config_hash(experiment), 'commit': 'abc', 'dirty': False})
    checkpoints = Checkpoints(run / 'checkpoints', keep=1)
    average = draw(shapes.params) if ema else None
    checkpoints.save(2, TrainState(jnp.asarray(2), draw(shapes.params), draw(shapes.opt_state), average), about={})
    checkpoints.wait()
    checkpoints.close()
    return run


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp('runs') / 'source', small())


def probe(source, **changes):
    optim = AdamW(schedule=CONSTANT, ema=0.5, rates=PROBE)
    init = InitFrom(str(source), left_out=('decoders_answer',))
    return small(**({'optim': optim, 'init_from': init, 'mesh': MeshShape(data=2, fsdp=2, tensor=2)} | changes))


@pytest.fixture(scope='module')
def probed(source, tmp_path_factory):
    """A linear probe on 2 x 2 x 2 devices, and what was said of it."""
    run = tmp_path_factory.mktemp('runs') / 'probe'
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr('mmjax.train.run.say', said.append)
        train(probe(source), workdir=str(run), report=False)
    return run, said


def test_a_linear_probe_keeps_the_encoders_average_and_trains_its_classifier(source, probed):
    run, _ = probed
    average, last = saved(source, part='ema'), saved(source, part='params')
    for part in ('params', 'ema'):
        for path, x in saved(run, part=part).items():
            if path.startswith('decoders_answer'):
                assert not np.array_equal(x, average[path]) or 'bias' in path
            else:
                np.testing.assert_array_equal(x, average[path], err_msg=path)
    assert any(not np.array_equal(average[path], last[path]) for path in average)


def test_it_is_told_on_the_terminal_and_in_the_directory(source, probed):
    run, said = probed
    assert said[0] == f'starting from {source}, step 2, moving average:'
    assert [line.split()[:3] for line in said[1:6]] == [
        ['loaded', 'encoders_image', '848'],
        ['loaded', 'encoders_text', '112'],
        ['loaded', 'fusion', '6,656'],
        ['new', 'decoders_answer', '132'],
        ['unused', 'decoders_answer', '132'],
    ]
    assert '132 of 7,748 parameters train' in said[6]
    written, manifest = (json.loads((run / f'{name}.json').read_text()) for name in ('init', 'manifest'))
    origin = json.loads((source / 'manifest.json').read_text())
    assert manifest['init_from'] == {
        'run': str(source),
        'step': 2,
        'parameters': 'ema',
        'config_hash': origin['config_hash'],
        'commit': origin['commit'],
    }
    assert manifest['init_from'].items() <= written.items()
    assert written['loaded']['fusion/type_text'] == 'fusion/type_text'
    assert written['new'] == written['unused'] and all(path.startswith('decoders_answer/') for path in written['new'])


def test_a_resumed_run_does_not_look_at_the_other_one(probed, tmp_path):
    run = tmp_path / 'probe'
    shutil.copytree(probed[0], run)
    gone = tmp_path / 'gone'
    before = json.loads((run / 'manifest.json').read_text())
    dumped = json.loads((run / 'config.json').read_text())
    dumped['init_from']['run'] = str(gone)
    (run / 'config.json').write_text(json.dumps(dumped))
    train(probe(gone, steps=3), workdir=str(run), report=False)
    after = json.loads((run / 'manifest.json').read_text())
    assert after['init_from'] == before['init_from']
    assert all('init_from' not in part for part in after['resumed'])
    with pytest.raises(UserError, match='gone is no run with a checkpoint'):
        train(probe(gone), workdir=str(tmp_path / 'new'), report=False)
    assert not (tmp_path / 'new').exists()


def test_adapters_are_merged_where_they_are_loaded(tmp_path):
    """Of a model with wrappers into one without, on several devices; into another with wrappers its own stay fresh."""
    model = toy.model(dropout=0.0)
    lora = model.clone(fusion=LoraFusion(module=model.fusion, rank=2, alpha=3.0))
    run = write(tmp_path / 'lora', small(model=lora), ema=False)
    params = saved(run, part='params')
    expected = flat(merged(lora, nested(params)))
    for m in (model, lora.clone(fusion=lora.fusion.clone(rank=5))):
        experiment = small(model=m, init_from=InitFrom(str(run)), mesh=MeshShape(data=2, fsdp=2, tensor=2))
        mesh = experiment.mesh.build()
        new = abstract_state(experiment, shapes_of_batch(experiment), mesh).params
        start = find_start(experiment, new, run=None)
        assert start.part == 'params' and not start.match.unused
        assert all('/lora/' in path for path in start.match.new) and bool(start.match.new) == (m is not model)
        found = load(start, new, mesh, experiment=experiment)
        assert found.keys() == expected.keys()
        for path, x in found.items():
            np.testing.assert_allclose(x, expected[path], rtol=1e-6, atol=1e-6, err_msg=path)
            assert x.sharding == flat(new)[path].sharding, path
        assert np.abs(found[QUERY] - params[QUERY]).max() > 0.1
        assert found[QUERY].addressable_shards[0].data.size * 4 == found[QUERY].size


QUERY = 'fusion/stack/layers/attend/query/kernel'


def test_lanes_start_there_too(source, capsys):
    """What is new is of each lane's own seed."""
    experiment = probe(
        source, mesh=MeshShape(data=1), init_from=InitFrom(str(source), left_out=('fusion',), average=False)
    )
    lanes = Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build(jax.devices()[:1]))
    assert f'starting from {source}, step 2, parameters' in capsys.readouterr().err
    state, _ = lanes.begin([experiment, dataclasses.replace(experiment, seed=5)])
    expected = saved(source, part='params')
    for tree in (state.params, state.ema):
        for path, x in flat(tree).items():
            if not path.startswith('fusion'):
                np.testing.assert_array_equal(x, np.stack([expected[path]] * 2))
    assert not np.array_equal(*state.params['fusion']['type_text'])
    with pytest.raises(UserError, match=r'init_from\.stage first: there are no stages here'):
        staged = dataclasses.replace(experiment, init_from=InitFrom(stage='first'))
        Lanes(staged, shapes_of_batch(staged), experiment.mesh.build(jax.devices()[:1]))


def test_another_shape_names_both(source, tmp_path):
    model = toy.model(classes=2)
    text = dataclasses.replace(toy.WORDS, length=5)
    data = dataclasses.replace(toy.data(), transforms=(toy.data().transforms[0], text))
    longer = small(model=model, data=data, init_from=InitFrom(str(source)))
    with pytest.raises(UserError, match=re.escape('encoders_text/place/embedding has shape (5, 16), and')):
        train(longer, workdir=str(tmp_path / 'x'), report=False)
    assert not (tmp_path / 'x').exists()
