"""The recipes on standard sets, end to end on mocks of the same schema, and their full sizes by their shapes alone."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import sacrebleu

from mmjax import config
from mmjax.data import train_batches
from mmjax.data.transforms import prepare as transformed
from mmjax.experiment import Experiment
from mmjax.paths import flat
from mmjax.sharding import MESH_AXES
from mmjax.train.predict import predict
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.run import train
from mmjax.train.state import abstract_state
from mmjax.train.step import train_step
from tests.standard_sets import CocoCaptions, Imagenet, prepare, write_vqa

ROOT = Path(__file__).parents[1]
RECIPES = ('coco_caption', 'coco_matching', 'imagenet_vit', 'vqa_v2')

# As a user would who tries a recipe on a laptop: smaller, shorter, without workers. The data and what is done to them
# stay.
SMALL = """--steps 3 --batch-size 8 --precision float32 --optim.schedule.warmup 1 --log.every 1 --log.no-tensorboard
    --data.workers 0 --model.encoders.image.width 8"""
OVERRIDES = {
    'imagenet_vit': f"""{SMALL} --model.encoders.image.patch 56 --model.encoders.image.depth 0
        --model.decoders.label.classes 4 --evals.minival.data.workers 0 --evals.validation.data.workers 0""",
    'coco_matching': f"""{SMALL} --model.encoders.image.patch 56 --model.encoders.image.depth 0
        --model.encoders.text.width 8 --model.encoders.text.depth 0 --evals.val.data.workers 0
        --evals.test.data.workers 0""",
    'coco_caption': f"""{SMALL} --model.encoders.image.patch 56 --model.encoders.image.depth 0
        --model.encoders.text.width 8 --model.fusion.depth 1 --model.fusion.block.attention.heads 2
        --evals.val.data.workers 0 --evals.test.data.workers 0""",
    'vqa_v2': f"""{SMALL} --model.encoders.image.patch 96 --model.encoders.text.width 8 --model.fusion.depth 1
        --model.fusion.block.attention.heads 2 --model.decoders.answer.classes 2
        --evals.validation.data.workers 0""",
}


def recipe(name: str) -> Experiment:
    return config.load_file(str(ROOT / 'configs' / f'{name}.py'), kind=Experiment)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A directory of prepared data with all mocks."""
    home = tmp_path_factory.mktemp('standard')
    prepare(Imagenet, home, train=range(100), validation=range(200, 212))
    prepare(CocoCaptions, home, train=range(8), restval=range(20, 24), val=range(40, 43), test=range(60, 70))
    (home / 'files').mkdir()
    write_vqa(home / 'files')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMJAX_DATA', str(home))
        patch.setenv('MMJAX_VQA_V2', str(home / 'files'))
        yield home


@pytest.fixture(scope='module')
def trained(home, tmp_path_factory):
    """Run directory, results and predictions of a recipe, trained as `mmjax train CONFIG --…` trains it."""

    def train_once(name):
        if name not in done:
            start = ['--init-from.run', str(train_once('imagenet_vit')[0])] if name == 'coco_matching' else []
            experiment = config.override(recipe(name), [*shlex.split(OVERRIDES[name]), *start])
            run = tmp_path_factory.mktemp('runs') / name
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr('mmjax.train.report.plots', lambda *rows, **options: [])  # they have tests of their own
                done[name] = run, train(experiment, workdir=str(run)), run / 'predictions'
        return done[name]

    done = {}
    return train_once


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_trains_and_evaluates(name, trained):
    run, results, _ = trained(name)
    losses = [json.loads(line)['loss'] for line in (run / 'metrics.jsonl').read_text().splitlines() if 'loss' in line]
    assert len(losses) == 3 and np.isfinite(losses).all() and len(set(losses)) == 3
    assert (run / 'report.html').exists()
    assert {metric.split('/')[0] for metric in results} == set(recipe(name).evals)


def test_imagenet_is_scored_by_top_1(trained, home):
    run, results, predictions = trained('imagenet_vit')
    columns = np.load(predictions / 'validation.npz')
    assert sorted(columns['target'].tolist()) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3  # 12 images of 4 classes
    assert results['validation/accuracy'] == pytest.approx((columns['predicted'] == columns['target']).mean())
    assert len(np.load(predictions / 'minival.npz')['index']) == 1  # 1 % of 100
    picture = next((home / 'pictures/imagenet2012').iterdir())
    answer = predict(str(run), {'image': str(picture)})['label']
    assert answer[0]['label'].startswith('n0') and len(answer) == 3


def test_coco_is_scored_with_five_captions_an_image(trained):
    """Against the loop of the published protocol: the best place of five captions, the place of the one image."""
    _, results, predictions = trained('coco_matching')
    columns = np.load(predictions / 'test.npz')
    order = np.argsort(columns['index'])
    images, texts, group = (columns[key][order] for key in ('a', 'b', 'group'))
    assert len(images) == 50 and (group.reshape(10, 5) == group[::5, None]).all() and len(set(group.tolist())) == 10
    np.testing.assert_allclose(images.reshape(10, 5, -1).std(axis=1), 0, atol=1e-6)
    places = {'image_to_text': [], 'text_to_image': []}
    for i, image in enumerate(images[::5]):
        scores = texts @ image
        places['image_to_text'].append((scores >= scores[5 * i : 5 * i + 5].max()).sum() - 1)
    for j, text in enumerate(texts):
        scores = images[::5] @ text
        places['text_to_image'].append((scores >= scores[j // 5]).sum() - 1)
    for way, found in places.items():
        for k in (1, 5, 10):
            assert results[f'test/recall@{k}/{way}'] == pytest.approx(np.mean(np.array(found) < k)), (way, k)
    assert results['test/chance@1/text_to_image'] == pytest.approx(0.1) == results['test/chance@1/image_to_text']
    assert results['test/recall@10/text_to_image'] == 1


def test_coco_captions_are_scored_against_all_captions_of_an_image(trained, home):
    run, results, predictions = trained('coco_caption')
    columns = np.load(predictions / 'test.npz')
    order = np.argsort(columns['index'])
    written, references = (columns[key][order] for key in ('written', 'references'))
    told = [[text for text in row if text] for row in references.tolist()]
    expected = [[f'Caption {n} of image {i}.' for n in range(5 + i % 3)] for i in range(60, 70)]
    assert sorted(told) == sorted(expected)
    chrf = sacrebleu.corpus_chrf(written.tolist(), [[(row + [None] * 7)[i] for row in told] for i in range(7)])
    assert results['test/chrf'] == pytest.approx(chrf.score)
    first = next(i for i, row in enumerate(told) if row[0].endswith('of image 60.'))
    picture = home / 'pictures/coco_captions/COCO_val2014_000000000060.jpg'
    assert predict(str(run), {'image': str(picture)})['text']['text'] == written[first]


def test_coco_starts_from_the_tower_that_imagenet_has_taught(trained):
    run, *_ = trained('coco_matching')
    started = json.loads((run / 'init.json').read_text())
    assert any('encoders_image' in path for path in started['loaded']), started


def test_photographs_may_keep_their_aspect_ratio(home, tmp_path):
    """The same recipe on patches of whole photographs, from a square tower, whose parameters its own are."""
    native = config.load_file(f'{ROOT}/configs/coco_matching.py:native', kind=Experiment)
    kept = OVERRIDES['coco_matching'].replace('--model.encoders.image.patch 56', '')
    results = train(config.override(native, shlex.split(kept)), workdir=str(tmp_path / 'run'))
    assert results['test/recall@10/text_to_image'] == 1 and results.keys() >= {'val/recall@1/image_to_text'}
    batch = next(train_batches(dataclasses.replace(native.data, workers=0), batch_size=8, seed=0))
    assert batch['image'].shape == (8, 196, 16 * 16 * 3)
    grids = batch['image/grid'][:, 0]
    assert (batch['image/mask'].sum(axis=1) == grids.prod(axis=1)).all() and (grids[:, 0] != grids[:, 1]).any()
    shapes = [
        {path: x.shape for path, x in flat(abstract_state(x, shapes_of_batch(x), x.mesh.build()).params).items()}
        for x in (smaller(native), smaller(recipe('coco_matching')))
    ]
    assert shapes[0] == shapes[1]


def smaller(experiment: Experiment) -> Experiment:
    return config.override(experiment, ['--data.workers', '0', '--batch-size', '8'])


def test_vqa_is_scored_by_what_ten_people_said(trained):
    """The mock's classes are yes and 2. Even images: no; odd: yes; then yes by seven, 2 by five, and one yes of ten."""
    run, results, predictions = trained('vqa_v2')
    columns = np.load(predictions / 'validation.npz')
    assert len(columns['index']) == 20
    worth = {0: {0: [0, 1], 1: 1, 2: 0, 3: 0.3}, 1: {0: [0, 0], 1: 0, 2: 1, 3: 0}}  # of answering yes, and 2
    expected = []
    for index, predicted in zip(columns['index'].tolist(), columns['predicted'].tolist(), strict=True):
        share = worth[predicted][index % 4]
        expected.append(share[(index // 4) % 2] if isinstance(share, list) else share)
    np.testing.assert_allclose(columns['accuracy'], expected, rtol=1e-6)
    assert results['validation/accuracy'] == pytest.approx(np.mean(expected))
    assert results['validation/best'] == pytest.approx((2 + 5 + 5 + 1.5) / 20)
    kinds = {metric for metric in results if metric.startswith('validation/accuracy/')}
    assert kinds == {f'validation/accuracy/{kind}' for kind in ('yes/no', 'number', 'other')}
    answers = predict(str(run), {'text': 'Is it 1, really?'})['answer']
    assert {answer['label'] for answer in answers} == {'yes', '2'}


def pod(name: str) -> list[str]:
    """The changes of the docstring's last command, `A pod, …`."""
    recipe(name)
    told = sys.modules[f'configs.{name}'].__doc__ or ''
    return shlex.split(told.partition('\nA pod')[2].partition(f'configs/{name}.py')[2])


def transformer(width: int, depth: int, *, ratio: int = 4) -> int:
    """Parameters of pre-norm layers: four projections, two of the MLP, their biases, two norms."""
    return depth * (4 * (width + 1) * width + (width + 1) * ratio * width + (ratio * width + 1) * width + 4 * width)


def patches(width: int, side: int) -> int:
    return (3 * side * side + 1) * width


DEIT_S = 22_050_664  # parameters of DeiT-S, Touvron et al. 2021: a ViT-S/16 with a class token and learned positions
COUNTS = {
    ('imagenet_vit', False): DEIT_S - 384 - 197 * 384,
    ('imagenet_vit', True): patches(1280, 14) + transformer(1280, 32) + 2 * 1280 + 1281 * 1000,
    ('coco_matching', False): patches(384, 16)
    + transformer(384, 12)
    + (258 + 128) * 384
    + transformer(384, 6)
    + 2 * (2 * 384 + 384 * 512)
    + 2,
    ('coco_matching', True): patches(1024, 14)
    + transformer(1024, 24)
    + (258 + 128) * 1024
    + transformer(1024, 12)
    + 2 * (2 * 1024 + 1024 * 768)
    + 2,
    ('coco_caption', False): patches(384, 16) + transformer(384, 12 + 6) + (259 + 128) * 384 + 8 * 384 + 385 * 259,
    ('coco_caption', True): patches(1024, 14) + transformer(1024, 24 + 24) + (259 + 128) * 1024 + 8 * 1024 + 1025 * 259,
    ('vqa_v2', False): patches(768, 32) + (258 + 100) * 768 + transformer(768, 12) + 8 * 768 + 769 * 3129,
    ('vqa_v2', True): patches(1024, 16) + (258 + 100) * 1024 + transformer(1024, 24) + 8 * 1024 + 1025 * 3129,
}
PUBLISHED = {'imagenet_vit': 632e6}  # ViT-H/14 by Dosovitskiy et al. 2021, table 1


@pytest.mark.parametrize('name', RECIPES)
@pytest.mark.parametrize('large', [False, True], ids=['published', 'pod'])
def test_a_full_size_has_its_shapes_and_parameters(name, large):
    """The whole train step on a mesh of the pod's size, without devices and without computing."""
    experiment = config.override(recipe(name), pod(name) if large else ['--mesh.data', '8'])
    b, shape = experiment.batch_size, experiment.mesh
    row = transformed(dict.fromkeys(experiment.model.encoders), experiment.data.transforms)
    row |= {
        'label': np.int32(0),
        'answer/candidates': np.zeros(10, np.int32),
        'answer/scores': np.zeros(10, np.float32),
    }
    row |= {'weight': np.float32(1)}
    batch = {key: jax.ShapeDtypeStruct((b, *np.shape(x)), np.asarray(x).dtype) for key, x in row.items()}
    mesh = jax.sharding.AbstractMesh(shape.sizes(shape.fsdp * shape.tensor * abs(shape.data)), MESH_AXES)
    assert mesh.size == (256 if large else 8)
    state = abstract_state(experiment, batch, mesh)
    with jax.sharding.use_abstract_mesh(mesh):
        after, metrics = jax.eval_shape(lambda s, b: train_step(s, b, experiment=experiment), state, batch)
    assert metrics['loss'].shape == ()
    assert jax.tree.map(lambda x: x.shape, after.params) == jax.tree.map(lambda x: x.shape, state.params)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    assert count == COUNTS[name, large]
    if large and name in PUBLISHED:
        assert count == pytest.approx(PUBLISHED[name], rel=1e-3)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_that_was_not_run_says_so(name):
    recipe(name)
    told = sys.modules[f'configs.{name}'].__doc__ or ''
    assert 'NOT RUN HERE' in told and 'Published' in told and f'scripts/mmjax train configs/{name}.py' in told
    assert json.loads((ROOT / 'configs/expected' / f'{name}.json').read_text())['results'] is None
