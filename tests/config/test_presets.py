"""The real configs: every one survives JSON, every fusion design swaps in by its name."""

import dataclasses
import importlib
import json
import math
import pkgutil
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from mmjax import config
from mmjax.config import swaps
from mmjax.config.tree import to_tree
from mmjax.data.transforms import prepare, transforms_of
from mmjax.decoders.classification import Product
from mmjax.decoders.tokens import PatchPixels
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.paths import flat
from mmjax.sharding import MeshShape
from mmjax.train.expected import names, read
from mmjax.train.init import match
from mmjax.train.stages import by_name
from mmjax.train.state import abstract_state
from mmjax.train.step import predict_step
from tests.fusion.designs import designs

ROOT = Path(__file__).parents[2]
DESIGNS = {swaps.snake_case(cls.__name__): cls for cls in designs()}
WHOLE = {'objects': np.zeros((6, 9), np.float32)}  # what no transform gives its shape
IDEAS = ['early', 'late', 'concat', 'bottleneck', 'film', 'resampler']  # very different ones


def presets() -> dict[str, Experiment]:
    """By the file's name; of a file with stages each, as FILE:STAGE."""
    found = {}
    for path in sorted((ROOT / 'configs').glob('*.py')):
        made = config.load_stages(str(path), kind=Experiment)
        found |= {f'{path.name}:{x.name}': x for x in made} if isinstance(made, tuple) else {path.name: made}
    return found


PRESETS = presets()
LARGE = {Path(read(name).config).name for name in names() if read(name).needs}  # see tests/test_standard_recipes.py
# Those that are alike but for their fusion, which is swapped, once.
UNLIKE = list(
    {str((x.model.encoders, x.model.decoders)): name for name, x in PRESETS.items() if name not in LARGE}.values()
)


def kinds(name: str) -> set[tuple[str, str, type]]:
    """The encoders and decoders of a preset: where they stand and what they are, whatever their sizes."""
    model = PRESETS[name].model
    return {(part, key, type(x)) for part in ('encoders', 'decoders') for key, x in getattr(model, part).items()}


def covering() -> list[str]:
    """Few presets that have every kind of encoder and decoder, at every place where any preset has it."""
    left, found = set().union(*map(kinds, UNLIKE)), []
    while left:
        found.append(max(UNLIKE, key=lambda name: len(kinds(name) & left)))
        left -= kinds(found[-1])
    return found


@pytest.mark.parametrize('name', PRESETS)
def test_every_preset_survives_json(name):
    experiment = PRESETS[name]
    loaded = config.load(json.loads(json.dumps(config.dump(experiment))))
    assert loaded == experiment
    assert config.override(experiment, []) == experiment
    assert config.config_hash(loaded) == config.config_hash(experiment)


PAIRS = [(name, design) for name in UNLIKE for design in IDEAS if design == IDEAS[0] or name in covering()]


@pytest.mark.parametrize(('name', 'design'), PAIRS)
def test_every_preset_has_shapes_with_a_design_and_every_kind_of_part_with_every_design(name, design):
    """The whole state and the outputs, without data and without computing; of one vector there is no product."""
    swapped = config.override(PRESETS[name], [f'model.fusion={design}'])
    if design == 'concat' and any(isinstance(decoder, Product) for decoder in swapped.model.decoders.values()):
        with pytest.raises(UserError, match='product: reads two streams or more'):
            assert_shapes(swapped)
    else:
        assert_shapes(swapped)


@pytest.mark.parametrize('function', ['pixels', 'pixels_mlp'])
def test_the_yardstick_from_pixels_has_shapes(function):
    """Of the paper's sizes, which nothing here trains."""
    published = config.load_file(f'{ROOT}/configs/relation_network.py:{function}', kind=Experiment)
    published.check()
    assert_shapes(published)


@pytest.mark.parametrize(
    'name', [path.name for path in sorted((ROOT / 'configs').glob('*.py')) if 'def large()' in path.read_text()]
)
def test_the_size_for_a_cluster_has_shapes(name):
    """Of a file with stages each, the largest of which counts; its docstring says how it is trained."""
    made = config.load_stages(f'{ROOT}/configs/{name}:large', kind=Experiment)
    assert f'scripts/mmjax train configs/{name}:large' in (sys.modules[f'configs.{name[:-3]}'].__doc__ or '')
    stages = by_name(made) if isinstance(made, tuple) else {'': made}
    for large in stages.values():
        large.check()
        assert large.precision == 'bfloat16'
    assert max(map(assert_shapes, stages.values())) > 2e9


@pytest.mark.parametrize('name', ['caption_emoji.py', 'matching_hard_negatives.py', 'matching_hard_negatives.py:large'])
def test_a_stage_finds_in_the_one_before_what_its_map_names(name):
    stages = by_name(config.load_stages(f'{ROOT}/configs/{name}', kind=Experiment))
    mesh = MeshShape(fsdp=4).build()
    params = {n: flat(abstract_state(x, shapes_of(x), mesh).params) for n, x in stages.items()}
    links = {n: x.init_from for n, x in stages.items() if x.init_from.given}
    assert len(links) == len(stages) - 1
    for stage, init in links.items():
        found = match(init, params[init.stage], params[stage], source='the stage before')
        assert any(place.startswith('encoders_image/') for place in found.loaded)
        assert set(init.map.values()) <= {place.rpartition('/')[0] for place in found.loaded}


def shapes_of(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch, without data."""
    absent = {key: None for key in experiment.model.encoders} | {'answer': np.int32(0), 'weight': np.float32(1)}
    absent |= {key: x for key, x in WHOLE.items() if key in absent}
    row = prepare(absent, transforms_of(experiment.data))
    return {key: jax.ShapeDtypeStruct((8, *np.shape(x)), np.asarray(x).dtype) for key, x in row.items()}


def assert_shapes(experiment: Experiment) -> int:
    """Those of state and outputs are what the decoders say. Returns the number of parameters."""
    batch = shapes_of(experiment)
    state = abstract_state(experiment, batch, MeshShape(fsdp=4).build())
    outputs = jax.eval_shape(lambda p, b: predict_step(p, b, experiment=experiment), state.params, batch)
    assert {key: (x.shape[0], x.shape[-1]) for key, x in outputs.items()} == {
        key: (8, numbers(decoder)) for key, decoder in experiment.model.decoders.items()
    }
    return sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))


def numbers(decoder) -> int:
    """How many a decoder gives for an example, or for each of its tokens."""
    if isinstance(decoder, PatchPixels):
        return decoder.patch**2 * decoder.channels
    named = (getattr(decoder, name, None) for name in ('classes', 'width', 'vocabulary'))
    return next((n for n in named if n), 2)  # two of a temperature


@pytest.mark.parametrize('name', DESIGNS)
def test_every_fusion_design_swaps_into_a_preset_by_name(name):
    experiment = PRESETS['easy_vqa.py']
    swapped = config.override(experiment, [f'model.fusion={name}'])
    assert type(swapped.model.fusion) is DESIGNS[name]
    assert dataclasses.replace(swapped, model=experiment.model) == experiment
    assert config.load(config.dump(swapped)) == swapped


def test_no_module_of_ours_has_a_module_as_class_level_default():
    """Linen modules are mutable, so such a default would be one instance shared by all."""
    for package in ('nn', 'encoders', 'fusion', 'decoders'):
        for module in pkgutil.iter_modules([str(ROOT / 'mmjax' / package)]):
            importlib.import_module(f'mmjax.{package}.{module.name}')
    ours = [cls for cls in nn.Module.__subclasses__() if cls.__module__.startswith('mmjax.')]
    while ours:
        cls = ours.pop()
        ours += cls.__subclasses__()
        for item in dataclasses.fields(cls):
            assert not isinstance(item.default, nn.Module), f'{cls.__name__}.{item.name}: use field(default_factory=…)'


def test_there_is_a_name_for_every_design():
    spot = swaps.find(to_tree(PRESETS['easy_vqa.py'], annotation=Experiment), 'model.fusion')
    assert {swaps.snake_case(cls.__name__) for cls in swaps.choices(spot)} == {*DESIGNS, 'lora_fusion'}
