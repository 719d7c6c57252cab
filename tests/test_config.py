"""Configs as data: exact round trips, stable hashes, swaps and flags, and what bad input is told."""

import dataclasses
import importlib
import json
import math
import pkgutil
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax import config
from mmjax.config import dumping, swaps
from mmjax.config.tree import to_tree
from mmjax.errors import UserError
from mmjax.experiment import Experiment

HERE = __name__.split('.')[0]  # the package that a dump of the classes below must trust


class Mixer(nn.Module):
    """Base of the mixers."""


class Plain(Mixer):
    """Mixes nothing.

    width: of a token.
    """

    width: int = 8
    rate: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width)(x)


class FewTokens(Mixer):
    """Mixes through a few."""

    num_tokens: int
    width: int = 16
    inner: Plain = field(default_factory=Plain)


class _Hidden(Mixer):
    """Of no concern to a user."""


class Net(nn.Module):
    mixer: Mixer
    towers: dict[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True)
class Crop:
    size: int = 32


@dataclass(frozen=True)
class Flip:
    probability: float = 0.5


@dataclass(frozen=True)
class Settings:
    """Decides a run.

    steps: how many updates. seed: of everything.
    """

    net: Net = field(default_factory=lambda: Net(Plain(), towers={'image': Plain(), 'text': Plain(width=9)}))
    steps: int = 100
    seed: int = 0
    lr: float = 1e-3  # peak of the schedule
    ema: float | None = None
    name: str = 'x'
    verbose: bool = False
    kind: Literal['a', 'b'] = 'a'
    betas: tuple[float, float] = (0.9, 0.99)
    transforms: tuple[Crop | Flip, ...] = (Crop(), Flip())
    scores: dict[str, float] = field(default_factory=lambda: {'top_1': 0.5})
    crop: Crop | None = None


@dataclass(frozen=True)
class Grown:
    """A class to which `depth` was added after runs had been made without it."""

    width: int = 3
    depth: int = field(default=12, metadata={'old': 6})


def reload(obj: Any) -> Any:
    return config.load(json.loads(json.dumps(config.dump(obj))), trust=(HERE,))


def override(*args: str) -> Settings:
    return config.override(Settings(), args)


# --- dump and load ------------------------------------------------------------------------------------------------


def test_round_trip_is_equal_and_keeps_types():
    settings = Settings(net=Net(FewTokens(3)), betas=(0.1, 1e-300), lr=0.1 + 0.2, crop=Crop(7))
    loaded = reload(settings)
    assert loaded == settings
    assert type(loaded.betas) is tuple and type(loaded.net.towers) is dict
    assert loaded.lr.hex() == settings.lr.hex()


def test_dump_writes_defaults_and_class_paths_and_not_linens_own_fields():
    dumped = config.dump(Settings())
    assert dumped['schema'] == 1
    assert dumped['class'] == f'{__name__}.Settings'
    assert dumped['net']['mixer'] == {'class': f'{__name__}.Plain', 'width': 8, 'rate': 0.5}
    assert dumped['transforms'][1] == {'class': f'{__name__}.Flip', 'probability': 0.5}


def test_a_loaded_module_initialises_to_the_same_parameters():
    x = jnp.ones((1, 4))
    before, after = (module.init(jax.random.key(0), x) for module in (Plain(width=5), reload(Plain(width=5))))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, after))


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text().filter(lambda key: key != 'class')
values = st.recursive(leaves, lambda v: st.lists(v).map(tuple) | st.dictionaries(keys, v), max_leaves=20)


@dataclass(frozen=True)
class Holder:
    value: Any


@given(values)
def test_any_plain_value_survives_json(value):
    loaded = reload(Holder(value)).value
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 is not 1.0, -0.0 is not 0.0


@pytest.mark.parametrize(
    ('value', 'told'),
    [
        ([1], 'value: a list has no exact form in JSON; use a tuple'),
        ({1: 2}, "value: 1 can't be a key"),
        ({'class': 2}, "value: 'class' can't be a key"),
        ((1, {'a': jnp.ones(2)}), 'value.1.a: a ArrayImpl has no exact form'),
        (Plain(name='fixed'), "value: leave out name='fixed'"),
        (dataclasses.make_dataclass('Lost', [])(), 'define Lost'),
    ],
)
def test_what_json_cannot_say_is_refused(value, told):
    with pytest.raises(UserError, match=re.escape(told)):
        config.dump(Holder(value))


def test_an_instance_in_two_places_is_loaded_as_two():
    tower = Plain()
    towers = reload(Net(Plain(), towers={'image': tower, 'text': tower})).towers
    assert towers['image'] == towers['text'] and towers['image'] is not towers['text']


def test_classes_are_imported_only_from_trusted_packages():
    dumped = config.dump(Settings())
    with pytest.raises(UserError, match=f'add --trust {HERE}'):
        config.load(dumped)
    with pytest.raises(UserError, match=r'os\.system is not imported'):
        config.load({'schema': 1, 'class': 'os.system'})
    with pytest.raises(UserError, match=r"mmjax\.errors has no dataclass 'nearest'"):
        config.load({'schema': 1, 'class': 'mmjax.errors.nearest'})


def change(**changes: Any) -> dict[str, Any]:
    dumped = config.dump(Settings())
    dumped['net']['mixer'] |= changes
    return dumped


@pytest.mark.parametrize(
    ('dumped', 'told'),
    [
        (change(widht=3), "net.mixer.widht: .*Plain has no such field; did you mean 'width'"),
        (change(**{'class': f'{__name__}.Plian'}), "net.mixer: .* has no dataclass 'Plian'; did you mean 'Plain'"),
        (change(**{'class': f'{HERE}.gone.Plain'}), "net.mixer: can't import .*gone.Plain"),
        (change(**{'class': f'{__name__}.FewTokens'}), 'net.mixer.rate: .*FewTokens has no such field'),
        ({'schema': 1, 'class': f'{__name__}.Crop'}, 'size: is not in the config, and .*Crop needs it'),
        ({'schema': 2, 'class': f'{__name__}.Crop', 'size': 3}, 'schema 2: this version reads 1 to 1'),
        ({'class': f'{__name__}.Crop', 'size': 3}, 'schema None'),
    ],
)
def test_a_dump_that_cannot_be_mapped_names_the_place_and_the_commit(dumped, told):
    with pytest.raises(UserError, match=rf'{told}.*written by commit c0ffee'):
        config.load(dumped | {'commit': 'c0ffee'}, trust=(HERE,))


def test_an_added_field_has_the_value_of_old_runs_and_leaves_their_hash_alone():
    old = {'schema': 1, 'class': f'{__name__}.Grown', 'width': 3}
    assert config.load(old, trust=(HERE,)) == Grown(width=3, depth=6)
    hashes = [config.config_hash(grown) for grown in (Grown(depth=6), Grown(depth=12))]
    assert hashes[0] != hashes[1]

    today = dataclasses.make_dataclass('Grown', [('width', int, 3)], frozen=True)  # the class as it was
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], 'Grown', today)
        today.__module__ = __name__
        assert config.config_hash(today()) == hashes[0]


def test_upgrades_run_in_order_and_only_on_older_dumps(monkeypatch):
    def rename(dumped):
        return {{'w': 'wide'}.get(key, key): value for key, value in dumped.items()}

    def rename_again(dumped):
        return {{'wide': 'size'}.get(key, key): value for key, value in dumped.items()}

    monkeypatch.setattr(dumping, 'UPGRADES', ((2, rename), (3, rename_again)))
    path = f'{__name__}.Crop'
    assert config.dump(Crop())['schema'] == 3
    for dumped in ({'schema': 1, 'w': 5}, {'schema': 2, 'wide': 5}, {'schema': 3, 'size': 5}):
        assert config.load(dumped | {'class': path}, trust=(HERE,)) == Crop(5)


# --- hash and diff ------------------------------------------------------------------------------------------------


def test_hash_is_that_of_the_meaning():
    assert re.fullmatch('[0-9a-f]{64}', config.config_hash(Settings()))
    assert config.config_hash(Settings()) == config.config_hash(reload(Settings()))
    assert config.config_hash(Settings(lr=1.0)) == config.config_hash(Settings(lr=1))
    assert config.config_hash(Settings()) != config.config_hash(Settings(seed=1))
    towers = {'image': Plain(), 'text': Plain()}
    a, b = (Net(Plain(), towers=dict(items)) for items in (towers.items(), reversed(towers.items())))
    assert config.config_hash(a) != config.config_hash(b)  # a module that iterates over its dict sees the order


def test_diff_lists_what_differs_and_a_swapped_class_once():
    a = config.dump(Settings())
    b = config.dump(Settings(net=Net(FewTokens(2), towers={'image': Plain(width=4)}), steps=7, betas=(0.9, 0.9)))
    assert config.diff(a, a) == []
    assert config.diff(a, b) == [
        ('net.mixer', 'Plain(width=8, rate=0.5)', 'FewTokens(num_tokens=2, width=16, inner=Plain)'),
        ('net.towers.image.width', 8, 4),
        ('net.towers.text', 'Plain(width=9, rate=0.5)', '(absent)'),
        ('steps', 100, 7),
        ('betas', [0.9, 0.99], [0.9, 0.9]),
    ]


# --- config files -------------------------------------------------------------------------------------------------


def write(folder, text: str, *, name: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


MINE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    size: int = 3

def experiment() -> Mine:
    return Mine(size=4)
"""


@pytest.mark.parametrize(('folder', 'module'), [('configs', 'configs.file_{}'), ('else', 'file_{}')])
def test_a_config_file_can_define_classes_that_its_dump_can_name(tmp_path, monkeypatch, folder, module):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    module = module.format(folder)
    path = write(tmp_path / folder, MINE, name=f'file_{folder}.py')
    made = config.load_file(path, kind=object)
    assert made.size == 4
    assert config.dump(made)['class'] == f'{module}.Mine'
    assert config.load(config.dump(made), trust=(f'file_{folder}',)) == made
    assert type(config.load_file(path, kind=object)) is type(made)  # imported once


@pytest.mark.parametrize(
    ('name', 'text', 'told'),
    [
        ('a1.py', 'x = 1', 'a1.py: defines no function `experiment`; write def experiment() -> Settings'),
        ('a2.py', 'def experiment():\n    return 3', 'a2.py: experiment() returns a int; it must return a Settings'),
        ('a3.py', 'def experiment():\n\n    return x', "a3.py line 3: NameError: name 'x' is not defined"),
        ('a4.py', 'import jax\nimport jaxx', "a4.py line 2: ModuleNotFoundError: No module named 'jaxx'"),
        ('a5.py', 'x = (\n', 'a5.py line 1: SyntaxError:'),
        ('a6.txt', '', 'a6.txt: a config file is Python'),
        ('dataclasses.py', 'def experiment(): pass', "dataclasses.py: a module 'dataclasses' is loaded already"),
    ],
)
def test_a_bad_config_file_is_told_with_its_line(tmp_path, monkeypatch, name, text, told):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    path = write(tmp_path, text, name=name)
    with pytest.raises(UserError, match=re.escape(told)):
        config.load_file(path, kind=Settings)


def test_a_missing_config_file_is_told_with_the_nearest(tmp_path):
    write(tmp_path, '', name='easy_vqa.py')
    with pytest.raises(UserError, match=r"easy_vqo.py: no such config file; did you mean '.*easy_vqa.py'"):
        config.load_file(str(tmp_path / 'easy_vqo.py'), kind=Settings)


# --- overrides ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('args', 'path', 'value'),
    [
        (['--steps', '200'], 'steps', 200),
        (['steps=200'], 'steps', 200),
        (['--steps=200'], 'steps', 200),
        (['--lr', '1e-5'], 'lr', 1e-5),
        (['--ema', '0.5'], 'ema', 0.5),
        (['ema=None'], 'ema', None),
        (['--verbose'], 'verbose', True),
        (['verbose=true'], 'verbose', True),
        (['verbose=True', 'verbose=false'], 'verbose', False),
        (['--name', 'lr=3'], 'name', 'lr=3'),
        (['--kind', 'b'], 'kind', 'b'),
        (['--betas', '0.1', '0.2'], 'betas', (0.1, 0.2)),
        (['--net.mixer.width', '4'], 'net.mixer.width', 4),
        (['--net.towers.text.width', '4'], 'net.towers.text.width', 4),
        (['--transforms.0.size', '4'], 'transforms.0.size', 4),
        (['--scores.top-1', '0.1'], 'scores.top_1', 0.1),
        (['--scores.top_1', '0.1'], 'scores.top_1', 0.1),
        (['scores.top-1=0.1'], 'scores.top_1', 0.1),
        (['crop=crop', '--crop.size', '8'], 'crop', Crop(8)),
        (['net.mixer=few-tokens', '--net.mixer.num-tokens', '8'], 'net.mixer.num_tokens', 8),
        (['--net.mixer.num_tokens=8', 'net.mixer=FewTokens'], 'net.mixer.num_tokens', 8),
        (['net.mixer=fewtokens', 'net.mixer.num_tokens=8'], 'net.mixer.num_tokens', 8),
        (['transforms.0=flip'], 'transforms.0', Flip()),
        (['net.towers.image=mmjax_tests_own:Own'], 'net.towers.image.width', 8),
    ],
)
def test_override_changes_one_place(args, path, value, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmjax_tests_own', own_module())
    changed: Any = override(*args)
    for part in path.split('.'):
        if isinstance(changed, dict | tuple):
            changed = changed[part if isinstance(changed, dict) else int(part)]
        else:
            changed = getattr(changed, part)
    assert changed == value and type(changed) is type(value)


def own_module():
    module = type(sys)('mmjax_tests_own')
    module.Own = type('Own', (Plain,), {'__module__': 'mmjax_tests_own'})
    return module


def test_no_arguments_change_nothing():
    assert override() == Settings()


def test_a_swap_takes_over_the_fields_that_both_have_and_leaves_the_original_alone():
    settings = Settings(net=Net(Plain(width=77, rate=0.1)))
    swapped = config.override(settings, ['net.mixer=few_tokens', '--net.mixer.num-tokens', '8'])
    assert swapped.net == Net(FewTokens(num_tokens=8, width=77))
    assert settings.net == Net(Plain(width=77, rate=0.1))


def test_swapped_in_defaults_are_instances_of_their_own():
    swaps = [override('net.mixer=few_tokens', 'net.mixer.num_tokens=1').net.mixer.inner for _ in range(2)]
    assert swaps[0] is not swaps[1]


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['--stpes', '3'], "no flag --stpes; did you mean '--steps'?"),
        (['--width', '3'], "no flag --width; did you mean '--net.mixer.width'?"),
        (['--workdri', 'd'], "no flag --workdri; did you mean '--workdir'?"),
        (['--net.mixer', 'plain'], '--net.mixer is a part, not a flag; write net.mixer=NAME to swap it'),
        (['--beta', '1', '2'], "no flag --beta; did you mean '--betas'?"),
        (['--no-verbos'], "no flag --no-verbos; did you mean '--no-verbose'?"),
        (['stpes=3'], "stpes: no 'stpes' in the config; did you mean 'steps'?"),
        (['mixer=plain'], "no 'mixer' in the config; did you mean 'net.mixer'?"),
        (['net.towers.imag.width=3'], "no 'imag' in net.towers; did you mean 'image'?"),
        (['steps.x=3'], "steps.x: steps is 100, and has no 'x'"),
        (['--steps', 'abc'], "--steps: invalid literal for int() with base 10: 'abc'; it takes INT"),
        (['steps=abc'], '--steps'),
        (['--kind', 'c'], "'c' for argument '--kind'. Expected one of ('a', 'b')"),
        (['--steps'], "Missing value for argument '--steps'"),
        (['--steps', '3', '4'], "'4' is neither path=name nor the value of a flag"),
        (['net.mixer=few_tokns'], "net.mixer: no 'few_tokns'; did you mean 'few_tokens'? (there are few_tokens, plain"),
        (['net.mixer=hidden'], "net.mixer: no 'hidden'"),
        (['net.mixer=mixer'], "net.mixer: no 'mixer'"),
        (['net.mixer=nowhere.at_all:X'], "net.mixer: can't import nowhere.at_all:X: no module 'nowhere'"),
        (['net.mixer=..a:X'], "net.mixer: '..a:X' is no class path"),
        (['net.mixer=:X'], "net.mixer: ':X' is no class path"),
        ([f'net.mixer={__name__}:Crop'], 'is not a Mixer'),
        (['net.towers=plain'], 'net.towers holds image, text; write net.towers.NAME=…'),
        (['net.mixer=few_tokens'], 'net.mixer.num_tokens has no default'),
        (['net.mixer=few_tokens'], 'add --net.mixer.num-tokens VALUE'),
        (['net.mixer=few_tokens', '--net.mixer.num-tokns', '3'], "did you mean '--net.mixer.num-tokens'?"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_the_nearest_right_name(args, told):
    with pytest.raises(UserError) as caught:
        config.override(Settings(), args, known_flags=('--workdir',))
    message = str(caught.value)
    assert told in message
    assert '\n' not in message and '\x1b' not in message and '│' not in message


def test_a_value_that_the_class_refuses_is_told_with_its_path():
    with pytest.raises(UserError, match='value: even numbers only'):
        config.override(Holder(Picky()), ['--value.number', '3'])


@dataclass(frozen=True)
class Picky:
    number: int = 2

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError('even numbers only')


def test_help_is_that_of_the_swapped_config(capsys):
    with pytest.raises(SystemExit) as stop:
        override('net.mixer=few_tokens', '--help')
    assert not stop.value.code
    said = ' '.join(re.sub('[│─╭╮╰╯]', ' ', capsys.readouterr().out).split())
    assert '--net.mixer.num-tokens INT (required)' in said
    assert '--steps INT how many updates. (default: 100)' in said  # from the docstring of its class
    assert '--lr FLOAT peak of the schedule (default: 0.001)' in said  # from its comment
    assert '--net.towers.image.width INT of a token. (default: 8)' in said
    assert 'FewTokens. Mixes through a few. Instead: plain' in said
    assert 'parent' not in said and '--net.name' not in said


def test_nan_and_infinity_survive_too():
    assert reload(Holder(math.inf)).value == math.inf
    assert math.isnan(reload(Holder(math.nan)).value)


# --- the presets --------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path.name for path in (ROOT / 'configs').glob('*.py') if not path.name.startswith('_'))
DESIGNS = ['early', 'late', 'concat', 'bottleneck', 'coattention', 'isolated']


def preset(name: str) -> Experiment:
    return config.load_file(str(ROOT / 'configs' / name), kind=Experiment)


@pytest.mark.parametrize('name', PRESETS)
def test_every_preset_survives_json(name):
    experiment = preset(name)
    loaded = config.load(json.loads(json.dumps(config.dump(experiment))))
    assert loaded == experiment
    assert config.override(experiment, []) == experiment
    assert config.config_hash(loaded) == config.config_hash(experiment)


@pytest.mark.parametrize('name', DESIGNS)
def test_every_fusion_design_swaps_into_a_preset_by_name(name):
    experiment = preset('easy_vqa.py')
    swapped = config.override(experiment, [f'model.fusion={name}'])
    assert type(swapped.model.fusion).__module__ == f'mmjax.fusion.{name}'
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
    spot = swaps.find(to_tree(preset('easy_vqa.py'), annotation=Experiment), 'model.fusion')
    assert {swaps.snake_case(cls.__name__) for cls in swaps.choices(spot)} >= set(DESIGNS)
